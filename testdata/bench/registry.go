package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// startRegistry runs Debian's docker-registry on a port of the loopback that is free, and if it can be the one of the last
// time: by that the stores know what they have.
func (b *bench) startRegistry() (stop func(), err error) {
	kept := filepath.Join(b.dir, "port")
	last, _ := os.ReadFile(kept)
	l, err := net.Listen("tcp", "127.0.0.1:"+string(last))
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, err
	}
	b.registry = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(b.registry)
	if err := os.WriteFile(kept, []byte(port), 0o644); err != nil {
		return nil, err
	}
	config := filepath.Join(b.dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n",
		filepath.Join(b.dir, "registry"), b.registry)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.Command("docker-registry", "serve", config)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	for range 100 {
		if c, err := net.Dial("tcp", b.registry); err == nil {
			c.Close()
			return stop, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	return nil, fmt.Errorf("docker-registry does not answer on %s", b.registry)
}

func (b *bench) ref(name string) string { return b.registry + "/bench/" + name + ":latest" }

func (b *bench) push() error {
	for _, s := range shapes {
		if s.memoryOnly && !b.heavy {
			continue
		}
		if err := b.do("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false",
			"oci:"+b.oci(s.name)+":bench", "docker://"+b.ref(s.name)); err != nil {
			return err
		}
	}
	return nil
}
