package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// handle adds what programs want of a web server.
func handle(mux *http.ServeMux, dir string) {
	mux.HandleFunc("/who", who)
	mux.HandleFunc("/ws", webSocket)
	mux.HandleFunc("/no-ws", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "no WebSocket here") })
	mux.Handle("/git/", &repository{dir: filepath.Join(dir, "git")})
	mux.Handle("/debian/", http.StripPrefix("/debian/", mirror()))
	mux.Handle("/"+modulePath+"/@v/", http.StripPrefix("/"+modulePath+"/@v/", module()))
}

// who says which host a request was for, and which name its connection.
func who(w http.ResponseWriter, r *http.Request) {
	name := ""
	if r.TLS != nil {
		name = " sni=" + r.TLS.ServerName
	}
	fmt.Fprintf(w, "host=%s%s\n", r.Host, name)
}

// webSocket agrees to speak WebSocket, and then says back whatever it is told.
func webSocket(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		http.Error(w, "not asked for", http.StatusUpgradeRequired)
		return
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		log.Print(err)
		return
	}
	defer c.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	_, _ = io.Copy(c, rw)
}

// serveTLS speaks HTTPS as everything below example.test, and as a module proxy; the certificate is its own authority, and at /ca.pem.
func serveTLS(mux *http.ServeMux) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nettest"}, DNSNames: []string{"*.example.test", "proxy.golang.org"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	mux.HandleFunc("/ca.pem", func(w http.ResponseWriter, r *http.Request) {
		_ = pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	})
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	for _, port := range []string{":443", ":8444"} { // the second is one where anything may be spoken
		l, err := tls.Listen("tcp", port, config)
		if err != nil {
			return err
		}
		server := &http.Server{Handler: mux, ReadTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
		go func() { log.Fatal(server.Serve(l)) }()
	}
	return nil
}

// repository is a git repository by git's own server, made when it is asked for.
type repository struct {
	dir  string
	once sync.Once
	cgi  *cgi.Handler
	err  error
}

func (g *repository) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.once.Do(g.make)
	if g.err != nil {
		http.Error(w, g.err.Error(), http.StatusInternalServerError)
		return
	}
	g.cgi.ServeHTTP(w, r)
}

func (g *repository) make() {
	script := `set -e
export GIT_CONFIG_NOSYSTEM=1 HOME="$0"
mkdir -p "$0/work"
cd "$0/work"
git init -q -b main
head -c 300000 /dev/urandom >large
echo cloned >file
git add .
git -c user.name=nettest -c user.email=nettest@example.test commit -q -m first
git clone -q --bare . ../project.git
git -C ../project.git update-server-info
git --exec-path`
	out, err := exec.Command("sh", "-c", script, g.dir).CombinedOutput()
	if err != nil {
		g.err = fmt.Errorf("make repository: %w: %s", err, out)
		return
	}
	g.cgi = &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"), Root: "/git", Dir: g.dir,
		Env: []string{"GIT_PROJECT_ROOT=" + g.dir, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + g.dir, "PATH=" + os.Getenv("PATH")}}
}

// mirror is a Debian archive with one package.
func mirror() http.Handler {
	deb := debFile()
	packages := fmt.Sprintf("Package: cove-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: nettest <nettest@example.test>\n"+
		"Filename: pool/cove-hello.deb\nSize: %d\nSHA256: %x\nDescription: says hello\n", len(deb), sha256.Sum256(deb))
	index := "main/binary-" + runtime.GOARCH + "/Packages"
	release := fmt.Sprintf("Origin: nettest\nSuite: stable\nCodename: stable\nDate: %s\nArchitectures: %s all\nComponents: main\nSHA256:\n %x %d %s\n",
		time.Now().UTC().Format(time.RFC1123), runtime.GOARCH, sha256.Sum256([]byte(packages)), len(packages), index)
	return files(map[string][]byte{"dists/stable/Release": []byte(release), "dists/stable/" + index: []byte(packages), "pool/cove-hello.deb": deb})
}

// debFile is a Debian package with one file (deb(5): an ar(5) archive of a version and two tar archives).
func debFile() []byte {
	archive := func(name, text string) []byte {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		w := tar.NewWriter(z)
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Format: tar.FormatGNU})
		_, _ = io.WriteString(w, text)
		w.Close()
		z.Close()
		return out.Bytes()
	}
	out := bytes.NewBufferString("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{
		{"debian-binary", []byte("2.0\n")},
		{"control.tar.gz", archive("./control", "Package: cove-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: nettest <nettest@example.test>\nDescription: says hello\n")},
		{"data.tar.gz", archive("./hello", "hello from a package\n")},
	} {
		fmt.Fprintf(out, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.name, 0, 0, 0, 0o644, len(m.data))
		out.Write(m.data)
		if len(m.data)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

const modulePath = "hello.example.test/hello"

// module is what a module proxy has of a Go module with one version (https://go.dev/ref/mod#goproxy-protocol).
func module() http.Handler {
	mod := "module " + modulePath + "\n\ngo 1.21\n"
	var zipped bytes.Buffer
	w := zip.NewWriter(&zipped)
	for _, f := range [][2]string{{"go.mod", mod}, {"hello.go", "package hello\n\nconst Text = \"hello from a module\"\n"}} {
		one, _ := w.Create(modulePath + "@v1.0.0/" + f[0])
		_, _ = io.WriteString(one, f[1])
	}
	w.Close()
	return files(map[string][]byte{"list": []byte("v1.0.0\n"), "v1.0.0.info": []byte(`{"Version": "v1.0.0", "Time": "2026-01-02T03:04:05Z"}`),
		"v1.0.0.mod": []byte(mod), "v1.0.0.zip": zipped.Bytes()})
}

// files serves these and nothing else.
func files(all map[string][]byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := all[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	})
}
