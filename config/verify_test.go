package config

import (
	"slices"
	"strings"
	"testing"
)

// Whoever asks for signatures adds to what the others ask for, and nobody takes away.
func TestVerifyAdds(t *testing.T) {
	r := newRoom(t)
	own := r.write(r.home+"/own.pub", "own")
	r.write(r.home+"/.config/cove/config.toml", `verify = ["~/own.pub"]`)
	release, second := r.write("keys/release.pub", "release"), r.write("second.pub", "second")
	typed := r.write("typed.pub", "typed")
	for profile, want := range map[string][][]string{
		``:            {{own}, {typed}},
		`verify = []`: {{own}, {typed}},
		`verify = ["keys/release.pub", "` + second + `"]`: {{own}, {release, second}, {typed}},
	} {
		r.write("cove.toml", profile)
		opts := r.opts()
		opts.Flags = []Flag{{Name: "--verify-key", Key: "verify", Value: []string{"typed.pub"}}}
		p, _ := r.load(opts)
		if !slices.EqualFunc(p.Verify, want, func(d Demand, files []string) bool { return slices.Equal(d.Files(), files) }) {
			t.Errorf("%s: %+v", profile, p.Verify)
		}
		var shown []string
		for _, s := range p.Show() {
			if s.Key == "verify" {
				shown = append(shown, s.String()+" "+s.Origin.Kind)
			}
		}
		if first := `verify = ["` + own + `"] user`; len(shown) != len(want) || shown[0] != first || !strings.HasSuffix(shown[len(shown)-1], " flag") {
			t.Errorf("%s: shown as %q", profile, shown)
		}
		if string(p.Verify[0].Keys[0].Data) != "own" || p.NameOfOrigin(p.Verify[len(want)-1].Origin) != "--verify-key" {
			t.Errorf("%s: %+v", profile, p.Verify)
		}
	}
}

// Keys that lie in the project are read-only inside; to leave one out of protect is a grant.
func TestVerifyProtects(t *testing.T) {
	r := newRoom(t)
	r.write("keys/release.pub", "release")
	r.write(r.home+"/outside.pub", "outside")
	verify := `verify = ["keys/release.pub", "~/outside.pub"]` + "\n"
	p := r.profile(verify)
	if want := append(DefaultProtect(), "keys/release.pub"); !slices.Equal(p.Workspace.Protect, want) {
		t.Errorf("protected: %q", p.Workspace.Protect)
	}
	if grants := p.Grants(); len(grants) > 0 {
		t.Errorf("a demand is no grant: %+v", grants)
	}
	p = r.profile(verify + "[workspace]\nprotect = [\".git/hooks\", \".git/config\", \"cove.toml\", \"cove.lock\"]")
	if texts := r.texts(p.Grants()); !strings.Contains(texts, `write "keys/release.pub" of the project`) || strings.Contains(texts, "outside.pub") {
		t.Errorf("grants: %s", texts)
	}
	p = r.profile(verify + "[workspace]\nprotect = [\".git\", \"cove.toml\", \"cove.lock\", \"keys\"]")
	if grants := p.Grants(); len(grants) > 0 {
		t.Errorf("%+v", grants)
	}
}

func TestReadDemand(t *testing.T) {
	r := newRoom(t)
	t.Chdir(r.project)
	file := r.write("a.pub", "a")
	d, err := ReadDemand("--verify-key", []string{"a.pub"})
	if err != nil || !slices.Equal(d.Files(), []string{file}) || string(d.Keys[0].Data) != "a" {
		t.Errorf("%+v %v", d, err)
	}
	r.write("empty.pub", "")
	r.write("large.pub", strings.Repeat("x", maxSize+1))
	for name, want := range map[string]string{"none.pub": `--verify-key "none.pub": no such file or directory`, "": "is empty", "empty.pub": "is empty", "large.pub": "larger than", "/dev/null": "not a regular file"} {
		if _, err := ReadDemand("--verify-key", []string{"a.pub", name}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
