package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cove/sandbox/network"
	"cove/sandbox/spec"
)

// fakeNetwork is a network driver that carries nothing, and takes its time. It says how far it comes: it "fails" to be attached, "serves" and says so, or
// "refuses" the interface.
type fakeNetwork string

func (f fakeNetwork) Link(*spec.Network) (*spec.Link, error) { return network.BuiltinLink(false), nil }

func (f fakeNetwork) Attach(_ context.Context, _ int, _ *spec.Network, _ func(string) (string, error), _ func(network.Decision)) (*network.Attached, error) {
	time.Sleep(200 * time.Millisecond)
	if f == "fails" {
		return nil, errors.New("the wire is cut")
	}
	return &network.Attached{
		Link: *network.BuiltinLink(false), Driver: "fake", Done: make(chan struct{}),
		Close: func() error { fmt.Fprintln(os.Stderr, "closed"); return nil },
		Serve: func(tun *os.File) error {
			if f == "refuses" {
				tun.Close()
				return errors.New("the interface is of no use")
			}
			fmt.Fprintln(os.Stderr, "serves")
			return nil // with the interface open
		},
	}, nil
}

func (f fakeNetwork) Publish(context.Context, []spec.Port, func(string, uint16) (*os.File, error)) (network.Ports, error) {
	return nil, errors.New("nothing is published")
}

// A network whose link is known is attached while the inside is made. The command begins when it is, and where it is not never does.
func TestAttachBeside(t *testing.T) {
	for _, c := range []struct {
		attach, script string
		code           int
		err            string
	}{
		{"serves", "ls /sys/class/net; sleep .3; exit 3", 3, "serves\nclosed\n"},
		{"fails", "touch begun; sleep 60", 125, "cove: attach network: the wire is cut\n"},
		{"refuses", "sleep 60", 125, "the interface is of no use"},
	} {
		j := newJob(t).sh(c.script)
		j.Network, j.Attach = "user", c.attach
		began := time.Now()
		r := j.run(t)
		if r.code != c.code || !strings.Contains(r.err, c.err) {
			t.Errorf("%s, %q: exit code %d, want %d; %q, want %q", c.attach, c.script, r.code, c.code, r.err, c.err)
		}
		if took := time.Since(began); took < 200*time.Millisecond || took > 20*time.Second {
			t.Errorf("%s, %q took %s", c.attach, c.script, took)
		}
		if c.attach == "serves" && !strings.Contains(r.out, "tap0") {
			t.Errorf("no interface inside: %q", r.out)
		}
		if _, err := os.Stat(filepath.Join(string(j.Project), "begun")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the command has begun (%v)", c.attach, err)
		}
	}
}
