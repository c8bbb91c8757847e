package fetch

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	rt "cove/fetch/registrytest"
)

// A credential helper (docker-credential-NAME on PATH) is asked where the auth file names one, as docker's and podman's are.
func TestCredentialHelper(t *testing.T) {
	r, o := registry(t), options(t)
	ref, _ := r.Add("private:1", rt.Simple(rt.File("a", "a")))
	r.RequireLogin("me", "s3cret-word", false)
	dir := t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	helper := "#!/bin/sh\n[ \"$1\" = get ] || exit 1\nread -r server\necho \"$server\" >>" + dir + "/asked\n" +
		`printf '{"ServerURL":"%s","Username":"me","Secret":"s3cret-word"}' "$server"` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-cove-test"), []byte(helper), 0o700); err != nil {
		t.Fatal(err)
	}
	auth := filepath.Join(dir, "auth.json")
	if err := os.WriteFile(auth, []byte(`{"credHelpers": {"`+r.Addr+`": "cove-test"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("REGISTRY_AUTH_FILE", auth)
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Fatal(err)
	}
	if asked, err := os.ReadFile(dir + "/asked"); err != nil || string(asked) != r.Addr+"\n" {
		t.Errorf("the helper was asked for %q, %v", asked, err)
	}
}

func jsonInto(data []byte, v any) error { return json.Unmarshal(data, v) }
