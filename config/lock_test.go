package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cove/fetch/oci"
)

// digestOf is some digest.
func digestOf(s string) oci.Digest { return oci.FromString(s) }

// anyLock is a lock with everything that there can be in one.
func anyLock() *Lock {
	return &Lock{Setup: []string{"apt-get update", "printf '\x1b[2J\r\n' \"\u202e\" # \\ ü"}, Image: LockedImage{Ref: "docker.io/library/debian:12", Platforms: []LockedPlatform{
		{Name: "linux/amd64", Index: digestOf("index"), Manifest: digestOf("amd64"), Layers: []oci.Digest{digestOf("base"), digestOf("top")}},
		{Name: "linux/arm/v7", Manifest: digestOf("arm")},
	}}}
}

func TestLockText(t *testing.T) {
	l := anyLock()
	golden(t, "lock.golden", string(l.Text()))
	got, mistakes := parseLock(l.Text())
	if len(mistakes) > 0 || !reflect.DeepEqual(got.Image, l.Image) || !reflect.DeepEqual(got.Setup, l.Setup) {
		t.Errorf("read again: %+v, %v", got, mistakes)
	}
	// The order of the entries is no fact.
	l.Image.Platforms[0], l.Image.Platforms[1] = l.Image.Platforms[1], l.Image.Platforms[0]
	again, mistakes := parseLock(l.Text())
	if len(mistakes) > 0 || !reflect.DeepEqual(again, got) {
		t.Errorf("in another order: %+v, %v", again, mistakes)
	}
}

func TestLockMistakes(t *testing.T) {
	whole := string(anyLock().Text())
	anySetup := whole[strings.Index(whole, "text = ["):]
	a, b := string(digestOf("amd64")), string(digestOf("arm"))
	for _, c := range []struct{ name, old, new, want string }{
		{"empty", whole, "", "1:1: version is missing: this is no lock of cove's"},
		{"another's", whole, "[package]\nname = 'x'\n", "1:1: version is missing"},
		{"newer", "version = 1", "version = 2\nmore = []", "2:11: version = 2: this cove knows 1; it takes the one that wrote it"},
		{"no number", "version = 1", "version = '1'", `2:11: version = "1": want 1`},
		{"unknown key", "version = 1", "version = 1\nmore = []", `3:1: unknown key "more"`},
		{"unknown key of the image", "[image]", "[image]\ntag = 'x'", `5:1: unknown key "image.tag"`},
		{"unknown key of a platform", "index =", "indx =", `9:1: unknown key "image.platform[0].indx"; did you mean "index"?`},
		{"no image", whole, "version = 1", "1:1: image: want a table [image]; there is none"},
		{"no ref", "ref = \"docker.io/library/debian:12\"\n", "", "4:1: image.ref: want a string; there is none"},
		{"empty ref", "docker.io/library/debian:12", "", `5:7: image.ref = "": names no image`},
		{"ref of another kind", `"docker.io/library/debian:12"`, "12", "5:7: image.ref: want a string, not an integer"},
		{"no platforms", whole[strings.Index(whole, "\n[["):], "", "4:1: image.platform: want [[image.platform]] tables; there is none"},
		{"twice", "linux/arm/v7", "linux/amd64", `17:8: image.platform[1].name = "linux/amd64": it is there twice`},
		{"another spelling", "linux/amd64", "linux/x86_64", `8:8: image.platform[0].name = "linux/x86_64": not a platform`},
		{"escape in a platform", "linux/amd64", `linux/\u001b[2J`, `8:8: image.platform[0].name = "linux/\u001B[2J": not a platform`},
		{"no name", "name = \"linux/amd64\"\n", "", "7:1: image.platform[0].name: want a string; there is none"},
		{"short digest", a, a[:30], "10:12: image.platform[0].manifest = "},
		{"capitals", a, "sha256:" + strings.ToUpper(a[7:]), "10:12: image.platform[0].manifest = "},
		{"path for a digest", b, "sha256:../../../../../../../etc/passwd", "18:12: image.platform[1].manifest = "},
		{"md5", a, "md5:d41d8cd98f00b204e9800998ecf8427e", "10:12: image.platform[0].manifest = "},
		{"no manifest", "manifest = \"" + a + "\"\n", "", "7:1: image.platform[0].manifest: want a digest; there is none"},
		{"no layers", "layers = []\n", "", "16:1: image.platform[1].layers: want a list of digests; there is none"},
		{"a layer that is none", "[\n    \"", "[\n    3, \"", "12:5: image.platform[0].layers[0]: want a digest, not an integer"},
		{"too many layers", "layers = []", "layers = [" + strings.Repeat(`"`+a+`",`, 501) + "]", "19:10: image.platform[1].layers: more than 500 layers"},
		{"a setup that is none", "[setup]\n", "[x]\n", `unknown key "x"`},
		{"another key of a setup", "text = [", "texts = [", `unknown key "setup.texts"; did you mean "text"?`},
		{"a setup without commands", anySetup, "text = []\n", "setup.text: want a list of commands, not an array"},
		{"a command that is none", "text = [", "text = [3,", "setup.text[0]: want a string, not an integer"},
		{"what a merge left", "name = \"linux/amd64\"\n", "<<<<<<< HEAD\nname = \"linux/amd64\"\n=======\n", "8:"},
		{"cut", whole[len(whole)/2:], "", ":"},
	} {
		text := strings.Replace(whole, c.old, c.new, 1)
		if text == whole {
			t.Fatalf("%s: nothing changed", c.name)
		}
		l, mistakes := parseLock([]byte(text))
		var got []string
		for _, m := range mistakes {
			m.File = "f"
			got = append(got, strings.TrimPrefix(m.String(), "f:"))
		}
		if l != nil || !strings.Contains(strings.Join(got, "\n"), c.want) {
			t.Errorf("%s: lock %v, mistakes\n%s\nwant %s", c.name, l, strings.Join(got, "\n"), c.want)
		}
	}
}

// lockedRoom is a project with a lock.
func lockedRoom(t *testing.T, profile string) (*room, *Profile) {
	r := newRoom(t)
	r.write(LockName, string(anyLock().Text()))
	return r, r.profile(profile)
}

func TestLocked(t *testing.T) {
	r := newRoom(t)
	r.write(".config/cove/config.toml", "")
	for _, c := range []struct{ profile, user, platform, want string }{
		{`image = "docker.io/library/debian:12"`, "", "linux/amd64", ""},
		{`image = "docker.io/library/debian:12"`, "", "linux/arm/v7", ""},
		{`image = "docker.io/library/debian:12"`, "", "linux/arm64", "cove.lock: it pins no image for linux/arm64 (linux/amd64, linux/arm/v7)"},
		{`image = "docker.io/library/debian:13"`, "", "linux/amd64", `cove.lock: it pins the image "docker.io/library/debian:12", and the profile names "docker.io/library/debian:13"`},
		{`image = "debian:12"`, "", "linux/amd64", `and the profile names "debian:12"`},
		{`image = "host"`, "", "linux/amd64", `and the image "host" is this machine's own root file system`},
		{`image = "dir:rootfs"`, "", "linux/amd64", `is a folder, whose files may change at any time`},
		{``, "", "linux/amd64", `and the profile names no image ("host" is from: default)`},
		{``, `image = "docker.io/library/debian:12"`, "linux/amd64", `and the profile names no image ("docker.io/library/debian:12" is from: `},
	} {
		r.write(filepath.Join(r.home, ".config/cove/config.toml"), c.user)
		r.write(LockName, string(anyLock().Text()))
		p := r.profile(c.profile)
		l, err := p.ReadLock()
		if err != nil {
			t.Fatal(err)
		}
		at, err := p.Locked(l, c.platform)
		var e *LockError
		switch {
		case c.want == "" && (err != nil || at == nil || at.Name != c.platform):
			t.Errorf("%s, %s: %+v, %v", c.profile, c.platform, at, err)
		case c.want != "" && (!errors.As(err, &e) || !strings.Contains(err.Error(), c.want) || at != nil):
			t.Errorf("%s, %s: %+v, %v; want %s", c.profile, c.platform, at, err, c.want)
		}
	}
}

// A path in a lock is the profile's own word: it is the same on every machine.
func TestLockablePath(t *testing.T) {
	p := newRoom(t).profile(`image = "oci:./image:v1"`)
	if ref, why := p.Lockable(); ref != "oci:./image:v1" || why != "" || p.Image == ref {
		t.Errorf("%q, %q; the image is %q", ref, why, p.Image)
	}
}

func TestReadLock(t *testing.T) {
	r, p := lockedRoom(t, `image = "docker.io/library/debian:12"`)
	file := filepath.Join(r.project, LockName)
	if l, err := p.ReadLock(); err != nil || l.File != file {
		t.Fatalf("%+v, %v", l, err)
	}
	reset := func(make func() error) {
		t.Helper()
		if err := errors.Join(os.RemoveAll(file), make()); err != nil {
			t.Fatal(err)
		}
	}
	reset(func() error { return nil })
	if l, err := p.ReadLock(); l != nil || err != nil {
		t.Errorf("none there: %+v, %v", l, err)
	}
	// What a running sandbox keeps the name with.
	reset(func() error { return os.WriteFile(file, nil, 0o444) })
	if l, err := p.ReadLock(); l != nil || err != nil {
		t.Errorf("a placeholder: %+v, %v", l, err)
	}
	text := anyLock().Text()
	elsewhere := r.write(filepath.Join(r.home, "elsewhere"), string(text))
	for want, make := range map[string]func() error{
		"it is a symbolic link":                func() error { return os.Symlink(elsewhere, file) },
		"it is not a regular file":             func() error { return os.Mkdir(file, 0o755) },
		"the file may be written by everybody": func() error { return errors.Join(os.WriteFile(file, text, 0o666), os.Chmod(file, 0o666)) },
		"larger than 1048576 bytes":            func() error { return os.WriteFile(file, bytes.Repeat([]byte("#"), 1<<20+1), 0o644) },
		"version is missing":                   func() error { return os.WriteFile(file, nil, 0o644) },
	} {
		reset(make)
		if l, err := p.ReadLock(); l != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v, %v; want %s", l, err, want)
		}
	}
	// Its mistakes are those of a profile: with their places.
	reset(func() error { return os.WriteFile(file, []byte("version = 1\nimage = 3\n"), 0o644) })
	_, err := p.ReadLock()
	var pe *ProfileError
	var le *LockMistakes
	if !errors.As(err, &pe) || !errors.As(err, &le) || pe.Mistakes[0].String() != "cove.lock:2:9: image: want a table [image], not an integer" {
		t.Errorf("error is %v", err)
	}
}

// Two profiles in one folder have a lock each.
func TestLockFile(t *testing.T) {
	r := newRoom(t)
	opts := r.opts()
	if p, _ := r.load(opts); p.LockFile() != "" {
		t.Errorf("without a profile: %q", p.LockFile())
	}
	opts.ProfileFlag = r.write("ci.toml", "")
	if p, _ := r.load(opts); p.LockFile() != filepath.Join(r.project, "ci.toml.lock") {
		t.Errorf("%q", p.LockFile())
	}
}

func TestWriteLock(t *testing.T) {
	r := newRoom(t)
	p := r.profile(`image = "docker.io/library/debian:12"`)
	file := filepath.Join(r.project, LockName)
	l := anyLock()
	if err := p.WriteLock(l, nil); err != nil {
		t.Fatal(err)
	}
	first, err := p.ReadLock()
	if err != nil || !reflect.DeepEqual(first.Image, l.Image) {
		t.Fatalf("%+v, %v", first, err)
	}
	if info, err := os.Lstat(file); err != nil || info.Mode().Perm()&0o077 == 0 && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// Who has seen another lock than the one that is there writes none.
	for _, old := range []*Lock{nil, {File: file, data: []byte("other")}} {
		if err := p.WriteLock(l, old); err == nil || !strings.Contains(err.Error(), "changed meanwhile") {
			t.Errorf("error is %v", err)
		}
	}
	l.Image.Put(LockedPlatform{Name: "linux/arm/v7", Manifest: digestOf("new")})
	if err := p.WriteLock(l, first); err != nil {
		t.Fatal(err)
	}
	second, err := p.ReadLock()
	if err != nil || second.Image.Platform("linux/arm/v7").Manifest != digestOf("new") || len(second.Image.Platforms) != 2 {
		t.Fatalf("%+v, %v", second, err)
	}
	// What could not be read again is not written, and no attempt leaves a file.
	l.Image.Put(LockedPlatform{Name: "linux/\x1b", Manifest: digestOf("new")})
	if err := p.WriteLock(l, second); err == nil {
		t.Error("written")
	}
	if err := p.RemoveLock(first); err == nil {
		t.Error("removed what had changed")
	}
	if err := p.RemoveLock(second); err != nil {
		t.Error(err)
	}
	// A link is neither followed nor replaced: who made it means something by it.
	target := r.write(filepath.Join(r.home, "target"), "theirs")
	if err := os.Symlink(target, file); err != nil {
		t.Fatal(err)
	}
	if err := p.WriteLock(anyLock(), nil); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("error is %v", err)
	}
	if data, _ := os.ReadFile(target); string(data) != "theirs" {
		t.Errorf("written through the link: %q", data)
	}
	entries, err := os.ReadDir(r.project)
	if err != nil || len(entries) != 2 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// FuzzLock: what is read as a lock is written so that it reads the same, in one form, and holds nothing that is no digest.
func FuzzLock(f *testing.F) {
	f.Add(anyLock().Text())
	f.Add([]byte("version = 1\n[image]\nref = 'x'\nplatform = [{name = 'linux/386', manifest = 'sha256:" + strings.Repeat("0", 64) + "', layers = []}]\n"))
	f.Add([]byte("version = 1\n[[image]]\n"))
	f.Add([]byte("version = 1\nimage.platform = [[]]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, mistakes := parseLock(data)
		if (l == nil) != (len(mistakes) > 0) {
			t.Fatalf("%+v, %v", l, mistakes)
		}
		if l == nil {
			for _, m := range mistakes {
				if m.Line < 1 || m.Col < 1 || m.Line > bytes.Count(data, []byte("\n"))+1 || strings.ContainsAny(m.Text, "\n\x1b") {
					t.Fatalf("mistake %+v", m)
				}
			}
			return
		}
		for _, p := range l.Image.Platforms {
			for _, d := range append(p.Layers, p.Manifest) {
				if d.Validate() != nil {
					t.Fatalf("digest %q", d)
				}
			}
		}
		text := l.Text()
		again, mistakes := parseLock(text)
		if len(mistakes) > 0 || !reflect.DeepEqual(again.Image, l.Image) || !bytes.Equal(again.Text(), text) {
			t.Fatalf("%+v, and read again %+v, %v", l, again, mistakes)
		}
	})
}

func BenchmarkReadLock(b *testing.B) {
	dir := b.TempDir()
	p := &Profile{File: filepath.Join(dir, FileName), cwd: dir, owners: []int{os.Geteuid()}}
	for _, name := range []string{"none", "lock"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := p.ReadLock(); err != nil {
					b.Fatal(err)
				}
			}
		})
		if err := os.WriteFile(filepath.Join(dir, LockName), anyLock().Text(), 0o644); err != nil {
			b.Fatal(err)
		}
	}
}
