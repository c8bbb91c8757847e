// Package inside is cove as a program in a sandbox: the client by which others there reach what package outside serves. It is
// xdg-open, notify-send and git's credential helper, by the name that it is called by, and has none of the caller's rights: whatever
// it says, anybody inside could.
package inside

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"cove/sandbox/integration"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// Program is the one of spec's programs that argv[0] names, nil where it names none. It is looked at before anything else of
// cove is initialised.
func Program(argv0 string) func(args []string) int {
	switch argv0[strings.LastIndexByte(argv0, '/')+1:] {
	case spec.OpenProgram:
		return open
	case spec.NotifyProgram:
		return notify
	case spec.CredentialProgram:
		return credential
	}
	return nil
}

// exitRefused is what a program ends with when it did not get what it asked for; xdg-open(1) has it for a failed action.
const (
	exitUsage   = 1
	exitRefused = 4
)

// ask asks for one thing.
func ask(kind string, words ...string) (*integration.Answer, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	conn := os.NewFile(uintptr(fd), spec.HostSocket)
	defer conn.Close()
	at := spec.IntegrationsDir + "/" + spec.HostSocket
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: at}); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", at, err)
	}
	if err := integration.Send(conn, integration.Request{Kind: kind, Words: words}); err != nil {
		return nil, fmt.Errorf("ask outside: %w", err)
	}
	var answer integration.Answer
	if err := integration.Receive(conn, &answer); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("no answer came")
		}
		return nil, fmt.Errorf("ask outside: %w", err)
	}
	if answer.Refused != "" {
		return nil, errors.New(answer.Refused)
	}
	return &answer, nil
}

func complain(program, format string, args ...any) {
	fmt.Fprintf(os.Stderr, program+": "+format+"\n", args...)
}

// open is xdg-open(1) for web pages.
func open(args []string) int {
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		complain(spec.OpenProgram, "want one address: this is cove's, which opens it in the browser outside the sandbox")
		return exitUsage
	}
	if _, err := ask(integration.Open, args[0]); err != nil {
		complain(spec.OpenProgram, "%v", err)
		return exitRefused
	}
	return 0
}

// withValue are the options of notify-send(1) that have a value. None of them goes outside.
const withValue = "utaihcrA"

// notify is notify-send(1). Of what it can do there remain a title and a text.
func notify(args []string) int {
	words, err := titleAndText(args)
	if err != nil {
		complain(spec.NotifyProgram, "%v", err)
		return exitUsage
	}
	if _, err := ask(integration.Notify, words...); err != nil {
		complain(spec.NotifyProgram, "%v", err)
		return exitRefused
	}
	return 0
}

func titleAndText(args []string) ([]string, error) {
	var words []string
	for i := 0; i < len(args); i++ {
		long, isLong := strings.CutPrefix(args[i], "--")
		switch {
		case args[i] == "--":
			words = append(words, args[i+1:]...)
			i = len(args)
		case isLong:
			known := map[string]bool{"urgency": true, "expire-time": true, "app-name": true, "icon": true, "hint": true, "category": true,
				"replace-id": true, "action": true, "transient": false, "wait": false, "print-id": false}
			name, _, hasValue := strings.Cut(long, "=")
			takes, ok := known[name]
			if !ok {
				return nil, fmt.Errorf("unknown option --%q", name)
			}
			if takes && !hasValue {
				i++
			}
		case len(args[i]) > 1 && args[i][0] == '-':
			if strings.IndexByte(withValue, args[i][1]) >= 0 && len(args[i]) == 2 {
				i++
			}
		default:
			words = append(words, args[i])
		}
	}
	if len(words) < 1 || len(words) > 2 {
		return nil, errors.New("want a title, and a text if there is one")
	}
	return words, nil
}

// credential is a helper as gitcredentials(7) has it: git calls it with what it wants done, and says on stdin for which host.
func credential(args []string) int {
	if len(args) != 1 || args[0] != "get" {
		return 0 // what works and what does not is the caller's own git's to remember: "store" and "erase" stop here
	}
	want := map[string]string{}
	in := bufio.NewScanner(io.LimitReader(os.Stdin, 64<<10))
	for in.Scan() && in.Text() != "" {
		if key, value, ok := strings.Cut(in.Text(), "="); ok {
			want[key] = value
		}
	}
	if want["protocol"] != "https" {
		return 0
	}
	words := []string{want["host"]}
	if want["username"] != "" {
		words = append(words, want["username"])
	}
	answer, err := ask(integration.Credential, words...)
	if err != nil || len(answer.Words) != 2 {
		complain(spec.CredentialProgram, "%v", err)
		fmt.Println("quit=1") // else git would ask on the sandbox's terminal for what must not be typed there
		return 0
	}
	fmt.Printf("username=%s\npassword=%s\n", answer.Words[0], answer.Words[1])
	return 0
}
