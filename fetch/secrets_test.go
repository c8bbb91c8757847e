package fetch

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	rt "cove/fetch/registrytest"
	"cove/fetch/wire"
)

const secret = "s3cret-word"

func login(t *testing.T, r *rt.Registry, o *Options, token bool) {
	t.Helper()
	r.RequireLogin("me", secret, token)
	o.AuthFile = filepath.Join(t.TempDir(), "auth.json")
	if err := os.WriteFile(o.AuthFile, r.AuthFile("me", secret), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Wire = impatient
}

// holdsSecret tells whether a text holds what was sent in secret, in any form that it has on the way.
func holdsSecret(s string) bool {
	for _, word := range []string{secret, base64.StdEncoding.EncodeToString([]byte("me:" + secret)), "registrytest-token", "abcdef", "zyxwvut", "X-Amz-Signature=a"} {
		if strings.Contains(s, word) {
			return true
		}
	}
	return false
}

// A redirect to another host takes no credentials along, and no address with a signature in it comes back.
func TestRedirectToAnotherHost(t *testing.T) {
	for _, token := range []bool{false, true} {
		r, cdn, o := registry(t), registry(t), options(t)
		login(t, r, &o, token)
		ref, _ := r.Add("a:1", rt.Simple(rt.File("a", "a")))
		cdn.Add("a:1", rt.Simple(rt.File("a", "a")))
		r.SetFault(func(w http.ResponseWriter, req *http.Request) bool {
			if !strings.Contains(req.URL.Path, "/blobs/") || req.Header.Get("Authorization") == "" {
				return false
			}
			w.Header().Set("Location", cdn.URL()+req.URL.Path+"?X-Amz-Signature=abcdef&X-Amz-Date=20260101T00Z&x=zyxwvut%2F9")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return true
		})
		if _, err := Pull(ctx, ref, o); err != nil {
			t.Fatal(err)
		}
		log := cdn.Log()
		if len(log) != 2 {
			t.Fatalf("asked there: %+v", log)
		}
		for _, q := range log {
			if q.Authorization != "" || q.Referer != "" || !strings.Contains(q.Query, "X-Amz-Signature=abcdef") {
				t.Errorf("sent there: %+v", q)
			}
		}
		if _, err := o.Store.Remove(ctx, ref); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Store.Collect(ctx, false); err != nil {
			t.Fatal(err)
		}
		// What is asked there is not answered, and what it says is not repeated.
		for status, said := range map[int]string{401: "", 403: "you are %s", 500: "at http://x/%s?X-Amz-Signature=%[1]s and http://me:" + secret + "@y/", 404: "no /p?X-Amz-Signature=abcdef%[2]s", 410: "abcdef%[2]s zyxwvut/9 zyxwvut%%2F9"} {
			cdn.SetFault(func(w http.ResponseWriter, req *http.Request) bool {
				w.Header().Set("WWW-Authenticate", `Bearer realm="`+cdn.URL()+`/token",service="x"`)
				w.WriteHeader(status)
				fmt.Fprintf(w, said, secret, "")
				return true
			})
			_, err := Pull(ctx, ref, o)
			if err == nil || holdsSecret(err.Error()) || !strings.Contains(err.Error(), fmt.Sprintf("%s/v2/a/blobs/sha256:", cdn.URL())) || !strings.Contains(err.Error(), fmt.Sprint(status)) {
				t.Errorf("%d: %v", status, err)
			}
			for _, q := range cdn.Log() {
				if q.Authorization != "" || q.Path == "/token" {
					t.Errorf("sent there: %+v", q)
				}
			}
		}
	}
}

// The token service gets the credentials for the registry, but over http only when the registry is asked so itself, and
// nobody that the service names gets them.
func TestTokenService(t *testing.T) {
	t.Run("another host", func(t *testing.T) {
		r, service, o := registry(t), registry(t), options(t)
		login(t, r, &o, true)
		service.RequireLogin("me", secret, true)
		r.SetRealm(service.URL() + "/token")
		ref, _ := r.Add("a:1", rt.Simple(rt.File("a", "a")))
		if _, err := Pull(ctx, ref, o); err != nil {
			t.Fatal(err)
		}
		log := service.Log()
		if len(log) != 1 || !strings.HasPrefix(log[0].Authorization, "Basic ") || !strings.Contains(log[0].Query, "scope=repository%3Aa%3Apull") {
			t.Errorf("%+v", log)
		}
	})
	t.Run("http, from https", func(t *testing.T) {
		service := registry(t)
		r, o := tlsRegistry(t)
		login(t, r, &o, true)
		r.SetRealm(service.URL() + "/token")
		ref, _ := r.Add("a:1", rt.Simple(rt.File("a", "a")))
		_, err := Pull(ctx, ref, o)
		if err == nil || !strings.Contains(err.Error(), "over http") || len(service.Log()) != 0 {
			t.Errorf("%v", err)
		}
	})
	t.Run("http, from https, by a redirect", func(t *testing.T) {
		other := registry(t)
		r, o := tlsRegistry(t)
		login(t, r, &o, true)
		r.SetFault(rt.On("/token", -1, rt.Status(307, "Location", other.URL()+"/token")))
		ref, _ := r.Add("a:1", rt.Simple(rt.File("a", "a")))
		_, err := Pull(ctx, ref, o)
		if err == nil || !strings.Contains(err.Error(), "a redirect from https to http") || len(other.Log()) != 0 {
			t.Errorf("%v", err)
		}
	})
	t.Run("on to another", func(t *testing.T) {
		r, other, o := registry(t), registry(t), options(t)
		login(t, r, &o, true)
		other.RequireLogin("me", secret, true)
		r.SetFault(rt.On("/token", -1, rt.Status(307, "Location", other.URL()+"/token")))
		ref, _ := r.Add("a:1", rt.Simple(rt.File("a", "a")))
		if _, err := Pull(ctx, ref, o); err == nil {
			t.Error("pulled")
		}
		for _, q := range other.Log() {
			if q.Authorization != "" {
				t.Errorf("sent there: %+v", q)
			}
		}
	})
	for name, f := range map[string]struct {
		fault rt.Fault
		want  string
	}{
		"refuses": {rt.On("/token", -1, func(w http.ResponseWriter, req *http.Request) {
			w.WriteHeader(403)
			fmt.Fprintf(w, "%s %s %s", secret, req.Header.Get("Authorization"), req.URL)
		}), "403 Forbidden"},
		"no token":     {rt.On("/token", -1, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"token":"a\nb"}`) }), "the answer holds no token"},
		"no JSON":      {rt.On("/token", -1, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, secret) }), "not understood"},
		"endless":      {rt.On("/token", -1, rt.Endless([]byte(secret))), "not understood"},
		"silent":       {rt.On("/token", -1, rt.Silent), "has sent nothing for 300ms"},
		"passes":       {rt.On("/token", 2, rt.Status(503)), ""},
		"another's is": {rt.On("/token", 1, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"access_token":"stale"}`) }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, o := registry(t), options(t)
			login(t, r, &o, true)
			ref, _ := r.Add("a:1", rt.Simple(rt.File("a", "a")))
			r.SetFault(f.fault)
			_, err := Pull(ctx, ref, o)
			if f.want == "" && err != nil || f.want != "" && (err == nil || holdsSecret(err.Error()) || !strings.Contains(err.Error(), f.want)) {
				t.Errorf("%v", err)
			}
		})
	}
	for _, realm := range []string{"", "file:///etc/passwd", "/token", "http://me:pw@127.0.0.1:1/token", "http://169.254.169.254/token", "gopher://x/"} {
		r, o := registry(t), options(t)
		login(t, r, &o, true)
		r.SetRealm(realm + " ")
		if realm != "" {
			r.SetRealm(realm)
		}
		ref, _ := r.Add("a:1", rt.Simple(rt.File("a", "a")))
		if _, err := Pull(ctx, ref, o); err == nil || strings.Contains(err.Error(), "pw@") {
			t.Errorf("realm %q: %v", realm, err)
		}
	}
}

// An identity token is posted to the token service, and nowhere else.
func TestIdentityToken(t *testing.T) {
	r, o := registry(t), options(t)
	login(t, r, &o, true)
	data, err := json.Marshal(map[string]any{"auths": map[string]any{r.Addr: map[string]string{
		"auth": base64.StdEncoding.EncodeToString([]byte("me:")), "identitytoken": secret}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.AuthFile, data, 0o600); err != nil {
		t.Fatal(err)
	}
	ref, _ := r.Add("a:1", rt.Simple(rt.File("a", "a")))
	form := ""
	r.SetFault(rt.On("/token", -1, func(w http.ResponseWriter, req *http.Request) {
		form = req.Method + " " + req.PostFormValue("grant_type") + " " + req.PostFormValue("refresh_token") + " " + req.PostFormValue("scope")
		fmt.Fprint(w, `{"access_token":"registrytest-token"}`)
	}))
	if _, err := Pull(ctx, ref, o); err != nil || form != "POST refresh_token "+secret+" repository:a:pull" {
		t.Fatal(form, err)
	}
	for _, q := range r.Log() {
		if strings.Contains(q.Query, secret) || q.Path != "/token" && strings.Contains(q.Authorization, secret) {
			t.Errorf("sent: %+v", q)
		}
	}
}

// Credentials are for the registry that they are kept for, with whatever file or helper.
func TestAuthFiles(t *testing.T) {
	write := func(t *testing.T, path string, data []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, put := range map[string]func(t *testing.T, r *rt.Registry){
		"REGISTRY_AUTH_FILE": func(t *testing.T, r *rt.Registry) {
			path := filepath.Join(t.TempDir(), "auth.json")
			write(t, path, r.AuthFile("me", secret))
			t.Setenv("REGISTRY_AUTH_FILE", path)
		},
		"containers": func(t *testing.T, r *rt.Registry) {
			write(t, filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "containers", "auth.json"), r.AuthFile("me", secret))
		},
		"containers, in the settings": func(t *testing.T, r *rt.Registry) {
			write(t, filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "containers", "auth.json"), r.AuthFile("me", secret))
		},
		"docker": func(t *testing.T, r *rt.Registry) {
			write(t, filepath.Join(os.Getenv("HOME"), ".docker", "config.json"), r.AuthFile("me", secret))
		},
		"of one repository": func(t *testing.T, r *rt.Registry) {
			data := strings.Replace(string(r.AuthFile("me", secret)), r.Addr, r.Addr+"/team", 1)
			write(t, filepath.Join(os.Getenv("HOME"), ".docker", "config.json"), []byte(data))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, o := registry(t), options(t)
			put(t, r)
			r.RequireLogin("me", secret, false)
			o.Wire = impatient
			ref, _ := r.Add("team/a:1", rt.Simple(rt.File("a", "a")))
			if _, err := Pull(ctx, ref, o); err != nil {
				t.Fatal(err)
			}
			if log := r.Log(); log[0].Authorization != "" {
				t.Error("the credentials were sent before anybody asked for them")
			}
			if name == "of one repository" {
				other, _ := r.Add("others/a:1", rt.Simple(rt.File("a", "a")))
				if _, err := Pull(ctx, other, o); err == nil {
					t.Error("they were used for another one")
				}
			}
		})
	}
	// One that is wrong is said to be, and asked once.
	r, o := registry(t), options(t)
	login(t, r, &o, false)
	r.RequireLogin("me", "another", false)
	ref, _ := r.Add("a:1", rt.Simple(rt.File("a", "a")))
	_, err := Pull(ctx, ref, o)
	var status *wire.StatusError
	if !asError(err, &status) || status.Status != 401 || len(r.Log()) != 2 || holdsSecret(err.Error()) {
		t.Error(err)
	}
	if err := os.WriteFile(o.AuthFile, []byte(`{"auths": {"`+r.Addr+`": {"auth": "`+secret+`"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(ctx, ref, o); err == nil || holdsSecret(err.Error()) {
		t.Error(err)
	}
}
