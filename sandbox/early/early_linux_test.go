package early

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"cove/sandbox/trace"
)

func TestMain(m *testing.M) {
	if os.Args[0] == InitName {
		// By now init has closed what is not its own.
		for fd := range 10 {
			var st syscall.Stat_t
			if syscall.Fstat(fd, &st) == nil {
				os.Stdout.WriteString(string(rune('0' + fd)))
			}
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// What was open in the parent by chance, and not to be closed on exec, is not open in init, whose commands would get it.
func TestInitHasNothingElse(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for want, env := range map[string][]string{"0123": {}, "01234": {trace.Descriptor + "=4"}} {
		cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{InitName}, Env: env, ExtraFiles: []*os.File{null, null, null, null, null}}
		if out, err := cmd.Output(); err != nil || !strings.HasPrefix(string(out), want) || strings.ContainsAny(string(out)[len(want):], "5678") {
			t.Errorf("init has %q, want %q (%v)", out, want, err)
		}
	}
}

func TestWanted(t *testing.T) {
	for line, want := range map[string]bool{
		"cove":                         false,
		"cove run":                     false,
		"cove run true":                true,
		"cove run -- true":             true,
		"cove run --image x -- true":   true,
		"cove run --dry-run -- true":   false,
		"cove run -- sh --dry-run":     true,
		"cove run --help":              false,
		"cove shell -- true":           false,
		"cove exec run true":           false,
		"cove-init":                    false,
		"cove-init run true":           false,
		"cove-unpack run -- true":      false,
		"cove.test -test.run=. -x run": false,
	} {
		if got := wanted(strings.Fields(line)); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
	for line, want := range map[string]uintptr{
		"cove run -- true":                        Namespaces,
		"cove run --network none -- true":         Namespaces,
		"cove run --network user -- true":         Namespaces,
		"cove run --network host -- true":         Namespaces &^ syscall.CLONE_NEWNET,
		"cove run --network=host -- true":         Namespaces &^ syscall.CLONE_NEWNET,
		"cove run -- x --network host":            Namespaces,
		"cove run --network":                      Namespaces,
		"cove run --image host -- true --network": Namespaces,
	} {
		if got := namespacesOf(strings.Fields(line)); got != want {
			t.Errorf("%s: namespaces %x, want %x", line, got, want)
		}
	}
	if Take() != nil {
		t.Error("a test binary started a stage")
	}
}
