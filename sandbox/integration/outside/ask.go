package outside

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"cove/sandbox/integration"
	"cove/sandbox/programs"
)

// usualAskpass is where ssh looks when SSH_ASKPASS is not set, as Debian builds it; other builds have other places.
const usualAskpass = "/usr/bin/ssh-askpass"

// askTime is how long a question stays; then it was answered with no.
const askTime = time.Minute

// quiet is how long after a no everything is refused unasked: a program that asks again and again gets no yes by that.
const quiet = 10 * time.Second

// asker asks the caller, outside: by a program of the caller's desktop, and never on a terminal, which may be the sandbox's.
type asker struct {
	*programs.Programs
	program string
	mu      sync.Mutex // one question at a time
	no      time.Time  // the last one
}

func newAsker(p *programs.Programs, program string) (*asker, error) {
	named := program
	if program == "" {
		program = usualAskpass
	}
	path, err := p.Find(program)
	switch {
	case err == nil:
		return &asker{Programs: p, program: path}, nil
	case named == "":
		return nil, &integration.MissingError{Name: "host.ssh_agent.confirm", Why: "there is no program that could ask you: SSH_ASKPASS is not set, and there is no " + usualAskpass,
			Do: "set SSH_ASKPASS to one such as ssh-askpass-gnome or ksshaskpass; it is asked outside the sandbox"}
	}
	return nil, &integration.MissingError{Name: "host.ssh_agent.confirm", Why: fmt.Sprintf("SSH_ASKPASS is %q: %v", named, err),
		Do: "set it to a program such as ssh-askpass-gnome or ksshaskpass; it is asked outside the sandbox"}
}

// ask says whether the caller agrees. The program is told as ssh-agent tells it (SSH_ASKPASS_PROMPT), and its answer is
// understood as there: it must end well, having said nothing or yes.
func (a *asker) ask(ctx context.Context, question string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.no.IsZero() && time.Since(a.no) < quiet {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	out, err := runOutside(ctx, nil, append(a.Environ(), "SSH_ASKPASS_PROMPT=confirm"), a.program, question)
	said := strings.TrimSpace(string(out))
	yes := err == nil && (said == "" || strings.EqualFold(said, "yes"))
	if !yes {
		a.no = time.Now()
	}
	return yes
}

// maxOutput bounds what a program of the caller's may say.
const maxOutput = 64 << 10

// runOutside runs a program of the caller's, which cannot reach the terminal: it has a session of its own. It ends with this process, however
// that ends: by the kernel, which looks at the thread that has forked (PR_SET_PDEATHSIG(2const)).
func runOutside(ctx context.Context, input []byte, env []string, program string, args ...string) ([]byte, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = env
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if input != nil {
		cmd.Stdin = bytes.NewReader(input)
	}
	var out bounded
	cmd.Stdout = &out
	err := cmd.Run()
	return out.data, err
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ data []byte }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxOutput - len(b.data); room > 0 {
		b.data = append(b.data, p[:min(room, len(p))]...)
	}
	return len(p), nil
}
