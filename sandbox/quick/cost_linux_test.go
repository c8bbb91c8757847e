package quick

import (
	"context"
	"os"
	"testing"

	"cove/sandbox/host"
)

// TestMain lets this test binary try what the machine allows.
func TestMain(m *testing.M) {
	if os.Args[0] == host.StageName {
		os.Exit(host.StageMain())
	}
	os.Exit(m.Run())
}

// TestPlanAllocates holds what the decision of a usual run allocates, which is in the way of each: most of it is the Spec. More
// than the limit, a twentieth above what was seen, is work that was not done before.
func TestPlanAllocates(t *testing.T) {
	for _, name := range []string{"HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"} {
		t.Setenv(name, t.TempDir())
	}
	t.Chdir(t.TempDir())
	l, ok := wanted([]string{"cove", "run", "--", "true"})
	if !ok {
		t.Fatal("it is not for the short way")
	}
	plan := func() {
		c := newCall(context.Background(), l)
		c.Warn = func(string, ...any) {}
		if _, err := c.Plan(l); err != nil {
			t.Fatal(err)
		}
	}
	const most = 730
	if n := testing.AllocsPerRun(20, plan); n > most {
		t.Errorf("a plan allocates %.0f times, more than %d", n, most)
	}
}
