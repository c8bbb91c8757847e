package change

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"cove/sandbox/review"
)

const applyName = "cove-test-apply"

// applyCall is an apply, or an undo, in a process of its own.
type applyCall struct {
	Record review.Record
	Dir    string
	Undo   bool
}

type fixedSession struct{ applyCall }

func (f fixedSession) Record() review.Record { return f.applyCall.Record }
func (f fixedSession) Dir() string           { return f.applyCall.Dir }

func applyMain() {
	var c applyCall
	err := json.Unmarshal([]byte(os.Getenv("COVE_TEST_APPLY")), &c)
	if err == nil {
		err = c.run()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (c *applyCall) run() error {
	ctx := context.Background()
	s, err := Open(ctx, fixedSession{*c}, func(w string) { fmt.Println("warned:", w) })
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Println("begins")
	var res *Result
	if c.Undo {
		res, err = s.Undo(ctx, Options{})
	} else {
		res, err = s.Apply(ctx, Options{})
	}
	if errors.Is(err, ErrNothing) {
		return nil // killed when all was done
	}
	if err == nil && len(res.Skipped) > 0 {
		err = fmt.Errorf("skipped: %v", res.Skipped)
	}
	return err
}

// killed starts an apply and kills it after a while; false when it came to its end before.
func (v *view) killed(undo bool, after time.Duration) bool {
	v.t.Helper()
	b, err := json.Marshal(applyCall{v.r, v.d, undo})
	if err != nil {
		v.t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		v.t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: exe, Args: []string{applyName}, Env: append(os.Environ(), "COVE_TEST_APPLY="+string(b))}
	out, err := cmd.StdoutPipe()
	if err != nil {
		v.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, _ := out.Read(buf)
	if !strings.HasPrefix(string(buf[:n]), "begins") {
		v.t.Fatalf("%s", buf[:n])
	}
	done := make(chan struct{})
	go func() {
		time.Sleep(after)
		_ = cmd.Process.Kill()
		close(done)
	}()
	for {
		m, err := out.Read(buf)
		if m > 0 {
			n = copy(buf, buf[:m])
			v.t.Logf("%s", buf[:n])
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	<-done
	if strings.Contains(string(buf[:n]), ErrNoApply.Error()) {
		return false // killed before the apply had begun, or after the undo had ended
	}
	if err != nil && !strings.Contains(err.Error(), "killed") {
		v.t.Fatalf("%v: %s", err, buf[:n])
	}
	return err != nil
}

// eachOldOrNew fails where a path is neither as it was nor as it is to be.
func (v *view) eachOldOrNew(before, want string) {
	v.t.Helper()
	// A folder is made before it gets its mode.
	known := map[string]bool{}
	for _, text := range []string{before, want} {
		for line := range strings.Lines(text) {
			known[line] = true
		}
	}
	for line := range strings.Lines(v.dump(v.project)) {
		temporary := strings.Contains(line, "/.cove-") || strings.HasPrefix(line, `".cove-`)
		folder := strings.Contains(line, `" 40`)
		if !known[line] && !temporary && !folder {
			v.t.Fatalf("neither old nor new: %s", line)
		}
	}
}

// manyFiles makes a project and changes of every kind in it, of which some take their time.
const (
	manyFiles = `
		mkdir -p d gone/deeper stay; for i in $(seq 60); do echo $i > d/$i; echo $i > gone/$i; echo $i > gone/deeper/$i; done
		head -c 3000000 /dev/urandom > big; mkdir turns; echo t > turns/t; echo f > file; ln -s d link`
	manyChanges = `
		for i in $(seq 60); do echo changed $i > d/$i; mkdir -p new/$i; echo n > new/$i/n; done; rm -r gone
		head -c 4000000 /dev/urandom > big; head -c 2000000 /dev/urandom > big2; rm -r turns; echo now a file > turns
		rm file; mkdir file; echo in > file/in; ln -sf stay link; chmod 700 stay; ln big2 big3`
)

// A kill at any moment leaves files that are old or new, the next apply finishes what was begun, and an undo takes back both.
func TestKilled(t *testing.T) {
	rnd := rand.New(rand.NewSource(time.Now().UnixNano()))
	rounds, kills := 4, 0
	if testing.Short() {
		rounds = 3 // one of each
	}
	for round := 0; round < rounds || kills == 0 && round < 30; round++ {
		v := newView(t, kinds[[]int{0, 2}[round%2]], manyFiles)
		before := v.dump(v.project)
		want := v.write(manyChanges)
		for range 1 + rnd.Intn(3) {
			if !v.killed(false, time.Duration(rnd.Intn(20<<(round%3)))*time.Millisecond) {
				break
			}
			kills++
			v.eachOldOrNew(before, want)
		}
		if round%3 == 2 {
			// Straight back.
			for n := 1; v.killed(true, time.Duration(n*rnd.Intn(60))*time.Millisecond); n++ {
				kills++
				v.eachOldOrNew(before, want)
			}
		} else {
			v.apply(Options{})
			v.leftovers()
			differ(t, "finished", v.dump(v.project), want)
			for n := 1; v.killed(true, time.Duration(n*rnd.Intn(60))*time.Millisecond); n++ {
				kills++
				v.eachOldOrNew(before, want)
			}
		}
		v.leftovers()
		differ(t, "taken back", v.dump(v.project), before)
		differ(t, "the view", v.merged(), want)
	}
	if kills == 0 {
		t.Error("nothing was killed before its end")
	}
	t.Logf("%d kills", kills)
}
