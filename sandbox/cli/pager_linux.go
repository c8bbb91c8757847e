package cli

import (
	"errors"
	"os"
	"os/exec"
	"strings"

	"cove/sandbox/programs"
)

// pager is the program that shows long output page by page, as git chooses it: $PAGER, or less; nil where there is none,
// or where cat is asked for.
func (a *app) pager() *exec.Cmd {
	name := os.Getenv("PAGER")
	if program, _, _ := strings.Cut(strings.TrimLeft(name, " \t"), " "); strings.Contains(program, "/") {
		if _, err := programs.Find(program); errors.Is(err, programs.ErrWritable) {
			a.warn("$PAGER is %s, and is not run: %v", quote(program), err)
			name = ""
		}
	}
	if name == "" {
		if _, err := programs.Find("less"); err != nil {
			return nil
		}
		name = "less"
	}
	if name == "cat" {
		return nil
	}
	sh, err := programs.Find("sh")
	if err != nil {
		return nil
	}
	cmd := exec.Command(sh, "-c", name)
	cmd.Env = os.Environ()
	// Colours pass, what fits the screen stays on it, and the screen is not cleared.
	if os.Getenv("LESS") == "" {
		cmd.Env = append(cmd.Env, "LESS=FRX")
	}
	if os.Getenv("LV") == "" {
		cmd.Env = append(cmd.Env, "LV=-c")
	}
	// The text may be a stranger's: less is to run nothing for it, nor to write a file or start an editor.
	cmd.Env = append(cmd.Env, "LESSSECURE=1", "LESSOPEN=", "LESSCLOSE=")
	cmd.Stdout, cmd.Stderr = a.Stdout, a.Stderr
	return cmd
}
