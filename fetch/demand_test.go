package fetch

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"cove/fetch/image"
	"cove/fetch/oci"
	"cove/fetch/policy"
	"cove/fetch/policy/policytest"
	rt "cove/fetch/registrytest"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func demand(keys ...[]byte) image.Demand {
	d := image.Demand{By: "--verify-key"}
	for _, data := range keys {
		d.Keys = append(d.Keys, image.Key{File: "release.pub", Data: data})
	}
	return d
}

// Of what is in the store nobody is asked for signatures, and so none is found.
func TestDemandOfStored(t *testing.T) {
	r, o := registry(t), options(t)
	ref, _ := r.Add("app:1", rt.Simple(rt.File("a", "a")))
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Fatal(err)
	}
	o.Policy, o.Demands = Never, []image.Demand{demand(policytest.NewCosign().Public())}
	if _, err := Resolve(ctx, ref, []string{""}, o); !errors.Is(err, policy.ErrNoSignature) {
		t.Error(err)
	}
}

// An image that has to be signed is, wherever it comes from: the registry, the store, another id mapping's copy.
func TestDemands(t *testing.T) {
	r, o := registry(t), options(t)
	key, other, gpg := policytest.NewCosign(), policytest.NewCosign(), policytest.NewGPG("a", 0)
	app := rt.Simple(rt.File("a", "a"))
	ref, d := r.Add("app:1", app)
	signed := o
	signed.Demands = []image.Demand{demand(gpg.Public(), key.Public())}
	wrong := o
	wrong.Demands = []image.Demand{demand(other.Public())}
	never := signed
	never.Policy = Never
	want := func(what string, o Options, ref string, want error) {
		t.Helper()
		img, err := Pull(ctx, ref, o)
		if want == nil && err != nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if want != nil && img != nil {
			t.Errorf("%s: an image and an error", what)
		}
		// Nobody finds what Pull would not give.
		img, ferr := image.Find(ref, o.local())
		if o.Policy != Always && ((err == nil) != (ferr == nil) || err == nil && img.Digest != oci.Digest(d)) {
			t.Errorf("%s: found: %v", what, ferr)
		}
	}
	want("unsigned", signed, ref, policy.ErrNoSignature)
	if all, err := o.Store.Images(); err != nil || len(all) != 0 {
		t.Errorf("in the store: %v %v", all, err)
	}
	img, err := Pull(ctx, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := o.Store.Inspect(string(img.Digest))
	if err != nil {
		t.Fatal(err)
	}
	layer := digest.Digest(rec.Record.Layers[0].Digest)
	want("unsigned, and in the store", signed, ref, policy.ErrNoSignature)
	var unsigned *image.UnsignedError
	if _, err := Pull(ctx, ref, never); !errors.As(err, &unsigned) {
		t.Error(err)
	}
	offline := signed
	offline.Offline = true
	hits := r.Hits("")
	if _, err := Pull(ctx, ref, offline); !errors.As(err, &unsigned) || r.Hits("") != hits {
		t.Error(err)
	}

	// A signature that came later is looked for; nothing is fetched twice.
	policytest.Attach(r, "app", d, other.Sign(d, ref), key.Sign(d, r.Addr+"/app"))
	blobs := r.BlobHits(layer)
	want("signed later", signed, ref, nil)
	if got := r.BlobHits(layer); got != blobs {
		t.Errorf("the layer was asked for %d times more", got-blobs)
	}
	hits = r.Hits("")
	want("known", signed, ref, nil)
	want("known, offline", offline, ref, nil)
	want("known, never", never, ref, nil)
	if r.Hits("") != hits {
		t.Error("what is known was asked for")
	}
	in, err := o.Store.Inspect(ref)
	if err != nil || len(in.Record.Signed) != 1 || in.Record.Signed[0].Ref != ref || in.Record.Signed[0].Identity != r.Addr+"/app" || string(in.Record.Signed[0].Document) != string(d) {
		t.Errorf("%+v %v", in.Record, err)
	}
	always := o
	always.Policy = Always
	want("a pull without a demand", always, ref, nil)
	want("forgets nothing", never, ref, nil)

	// Two demands are two, and another key, or the same image under another name, is another thing.
	both := signed
	both.Demands = append([]image.Demand{demand(other.Public())}, signed.Demands...)
	want("both", both, ref, nil)
	both.Demands = append(both.Demands[:2:2], demand(policytest.NewCosign().Public()))
	want("and a third", both, ref, policy.ErrWrongKey)
	tagged, _ := r.Add("copy:2", app)
	want("another name, not in the store", signed, tagged, policy.ErrNoSignature)
	want("another name", o, tagged, nil)
	want("another name, in the store", signed, tagged, policy.ErrNoSignature)
	policytest.Attach(r, "copy", d, key.Sign(d, r.Addr+"/copy:1"))
	want("another tag", signed, tagged, policy.ErrWrongIdentity)
	pinned := r.Addr + "/copy@" + string(d)
	want("by digest", signed, pinned, nil)
	want("by digest, known", never, pinned, nil)
	want("which says nothing of the tag", signed, tagged, policy.ErrWrongIdentity)

	// The image's own user is learnt after the first pull: the same image for other ids.
	second := signed
	second.IDMap = testMap(t, 33)
	want("other ids", second, ref, nil)
	r.Close()
	want("no registry any more", signed, ref, nil)
	want("other ids, no registry", second, ref, nil)
	if _, err := Pull(ctx, ref, both); err == nil {
		t.Error("a third key's signature, without a registry")
	}
}

// A demand by what has no place for signatures ends at once.
func TestDemandOfFiles(t *testing.T) {
	o := options(t)
	dir := t.TempDir()
	if err := rt.WriteLayout(dir, map[string]rt.Image{"1": rt.Simple(rt.File("a", "a"))}); err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(ctx, "oci:"+dir+":1", o); err != nil {
		t.Fatal(err)
	}
	o.Demands = []image.Demand{demand(policytest.NewCosign().Public())}
	for _, ref := range []string{"oci:" + dir + ":1", "dir:" + dir, "host", "oci-archive:/none", "docker-archive:/none"} {
		var unsignable *image.UnsignableError
		if _, err := Pull(ctx, ref, o); !errors.As(err, &unsignable) {
			t.Errorf("%s: %v", ref, err)
		}
		if _, err := image.Find(ref, o.local()); !errors.As(err, &unsignable) {
			t.Errorf("found %s: %v", ref, err)
		}
	}
	r := registry(t)
	ref, _ := r.Add("app:1", rt.Simple(rt.File("a", "a")))
	o.Demands = []image.Demand{demand([]byte("no key"))}
	if _, err := Pull(ctx, ref, o); err == nil || !strings.Contains(err.Error(), "read key release.pub") {
		t.Error(err)
	}
}

// Who has signed an index has signed what it names; a signature on another platform's image is none.
func TestDemandOfIndex(t *testing.T) {
	r, o := registry(t), options(t)
	key := policytest.NewCosign()
	foreign := rt.Simple(rt.File("a", "a"))
	foreign.Platform = v1.Platform{OS: "linux", Architecture: "s390x"}
	ref, index := r.AddIndex("app:1", rt.Simple(rt.File("a", "a")), foreign)
	o.Demands = []image.Demand{demand(key.Public())}
	d := foreign.Build(rt.Blobs{}).Digest
	policytest.Attach(r, "app", d, key.Sign(d, ref))
	if _, err := Pull(ctx, ref, o); !errors.Is(err, policy.ErrNoSignature) {
		t.Error(err)
	}
	if _, err := Resolve(ctx, ref, []string{"linux/s390x", "linux/" + runtime.GOARCH}, o); !errors.Is(err, policy.ErrNoSignature) {
		t.Error(err)
	}
	policytest.Attach(r, "app", index, key.Sign(index, ref))
	img, err := Pull(ctx, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	in, err := o.Store.Inspect(ref)
	if err != nil || len(in.Record.Signed) != 1 || string(in.Record.Signed[0].Document) != string(index) || in.Record.Signed[0].Document == img.Digest {
		t.Errorf("%+v %v", in.Record.Signed, err)
	}
	// What a policy.json asks for is the image's own signature, as podman has it.
	containersFile(t, "registries.d/a.yaml", "default-docker:\n  use-sigstore-attachments: true\n")
	containersFile(t, "policy.json", `{"default":[{"type":"sigstoreSigned","keyPath":"`+keyFile(t, key.Public())+`"}]}`)
	o.Policy = Always
	var refused *PolicyError
	if _, err := Pull(ctx, ref, o); !errors.As(err, &refused) || !errors.Is(err, policy.ErrNoSignature) {
		t.Error(err)
	}
}

// A lock leads past the index, which may be what is signed.
func TestDemandOfLockedIndex(t *testing.T) {
	r, o := registry(t), options(t)
	key := policytest.NewCosign()
	ref, index := r.AddIndex("app:1", rt.Simple(rt.File("a", "a")))
	another, other := r.AddIndex("app:2", rt.Simple(rt.File("a", "b")))
	o.Locked = lockOf(t, ref, o)
	o.Demands = []image.Demand{demand(key.Public())}
	policytest.Attach(r, "app", index, key.Sign(index, ref))
	policytest.Attach(r, "app", other, key.Sign(other, r.Addr+"/app"))
	for _, d := range []digest.Digest{"", other, digest.FromString("gone")} {
		o.Locked.Index = oci.Digest(d)
		if _, err := Pull(ctx, ref, o); !errors.Is(err, policy.ErrNoSignature) {
			t.Errorf("%s: index %s: %v", another, d, err)
		}
	}
	o.Locked.Index = oci.Digest(index)
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Error(err)
	}
}

// A lock says which image it is, not what it is called.
func TestDemandOfLocked(t *testing.T) {
	r, o := registry(t), options(t)
	key := policytest.NewCosign()
	ref, d := r.Add("app:1", rt.Simple(rt.File("a", "a")))
	o.Locked = lockOf(t, ref, o)
	o.Demands = []image.Demand{demand(key.Public())}
	policytest.Attach(r, "app", d, key.Sign(d, r.Addr+"/app:2"))
	if _, err := Pull(ctx, ref, o); !errors.Is(err, policy.ErrWrongIdentity) {
		t.Error(err)
	}
	containersFile(t, "policy.json", `{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{"`+ref+`":[{"type":"reject"}]}}}`)
	var refused *PolicyError
	if _, err := Pull(ctx, ref, o); !errors.As(err, &refused) {
		t.Error(err)
	}
	containersFile(t, "policy.json", `{"default":[{"type":"insecureAcceptAnything"}]}`)
	policytest.Attach(r, "app", d, key.Sign(d, ref))
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Fatal(err)
	}
	o.Policy = Never
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Error(err)
	}
	if _, err := image.Find(ref, o.local()); err != nil {
		t.Error(err)
	}
	if _, err := image.Find(r.Addr+"/app:2", o.local()); err == nil {
		t.Error("signed as :1, and known as :2")
	}
	o.Policy = Missing
	pinned := r.Addr + "/app@" + string(d)
	for range 2 {
		if _, err := Pull(ctx, pinned, o); err != nil {
			t.Error(err)
		}
		o.Policy = Never
	}
}
