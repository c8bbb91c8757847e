package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// helper is what else this program can be told to be.
func helper(args []string) bool {
	switch args[0] {
	case "send":
		send(args[1])
	case "receive":
		receive(args[1], args[2])
	case "watch":
		watch(args[1])
	case "nested":
		insideNested(args[1:])
	case "suid":
		fmt.Println(os.Geteuid(), status("/proc/self/status")["CapEff"])
	default:
		return false
	}
	return true
}

// passed are the descriptors that one sandbox can give to another, and their names.
func passed() (names []string, fds []int) {
	add := func(name string, fd int, err error) {
		if err == nil {
			names, fds = append(names, name), append(fds, fd)
		}
	}
	for _, dir := range []string{"/", "/proc", "/proc/self", "/proc/1", "/dev", "/usr"} {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		add("folder", fd, err)
	}
	for _, ns := range []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"} {
		fd, err := unix.Open("/proc/self/ns/"+ns, unix.O_RDONLY, 0)
		add("namespace", fd, err)
	}
	for _, pid := range []int{1, os.Getpid(), os.Getppid()} {
		fd, err := unix.PidfdOpen(pid, 0)
		add("process", fd, err)
	}
	for _, pid := range pids() {
		fd, err := unix.Open("/proc/"+pid+"/exe", unix.O_PATH, 0)
		add("program", fd, err)
	}
	return names, fds
}

// send gives them away, and prints what the other side could do with them.
func send(name string) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		fatal(err)
	}
	for range 200 { // the other may not be up yet
		if err = unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		fatal(err)
	}
	names, fds := passed()
	for i := range fds {
		if err := unix.Sendmsg(fd, []byte(names[i]), unix.UnixRights(fds[i]), nil, 0); err != nil {
			fatal(err)
		}
		buf := make([]byte, 1000)
		n, err := unix.Read(fd, buf)
		if err != nil {
			fatal(err)
		}
		if n > 1 {
			fmt.Printf("%s; ", buf[:n])
		}
	}
}

// receive takes descriptors at the socket name, tries each, and answers with what it could do, or a dot.
func receive(name, text string) {
	var b bait
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		fatal(err)
	}
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		fatal(err)
	}
	_ = unix.Unlink(name)
	if err := unix.Bind(listener, &unix.SockaddrUnix{Name: name}); err != nil {
		fatal(err)
	}
	if err := unix.Listen(listener, 1); err != nil {
		fatal(err)
	}
	_ = unix.Chmod(name, 0o777)
	fd, _, err := unix.Accept(listener)
	if err != nil {
		fatal(err)
	}
	for {
		buf, oob := make([]byte, 100), make([]byte, unix.CmsgSpace(4))
		n, oobn, _, _, err := unix.Recvmsg(fd, buf, oob, 0)
		if err != nil || n == 0 {
			return
		}
		answer := "."
		if messages, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(messages) == 1 {
			if got, err := unix.ParseUnixRights(&messages[0]); err == nil && len(got) == 1 {
				answer = "." + use(string(buf[:n]), got[0], &b)
				unix.Close(got[0])
			}
		}
		if _, err := unix.Write(fd, []byte(strings.TrimPrefix(answer, ".")+map[bool]string{true: "."}[answer == "."])); err != nil {
			return
		}
	}
}

// use tries what a descriptor of another sandbox might be good for; "" when for nothing.
func use(kind string, fd int, b *bait) string {
	switch kind {
	case "folder":
		// Up and out, to a file of the host.
		for _, name := range b.Files {
			for _, way := range []string{name[1:], "../../../../../../.." + name, "self/root" + name, "1/root" + name} {
				if f, err := unix.Openat(fd, way, unix.O_RDONLY, 0); err == nil {
					buf := make([]byte, 100)
					n, _ := unix.Read(f, buf)
					unix.Close(f)
					if strings.Contains(string(buf[:max(n, 0)]), secret) {
						return "a file of the host by a folder of the other sandbox: " + way
					}
				}
			}
		}
		if f, err := unix.Openat(fd, "1/exe", unix.O_WRONLY, 0); err == nil || err == unix.ETXTBSY {
			unix.Close(f)
			return "process 1's program by the other sandbox's /proc"
		}
	case "namespace":
		if err := unix.Setns(fd, 0); err == nil {
			return "entered a namespace of the other sandbox"
		}
	case "process":
		if err := unix.PidfdSendSignal(fd, 0, nil, 0); err == nil {
			return "a signal reached the other sandbox"
		}
		for n := range 8 {
			if _, err := unix.PidfdGetfd(fd, n, 0); err == nil {
				return "took a descriptor out of the other sandbox"
			}
		}
		if err := unix.Setns(fd, unix.CLONE_NEWNS); err == nil {
			return "entered the other sandbox"
		}
	case "program":
		if ok, how := writesTool(fmt.Sprintf("/proc/self/fd/%d", fd), b); ok {
			return "the tool's file by a descriptor from the other sandbox, " + how
		}
	}
	return ""
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "probe:", err)
	os.Exit(1)
}

// insideNested tries what root of a nested user namespace may, and prints what it could do.
func insideNested(args []string) {
	if len(args) == 2 && args[0] == "mount" {
		fmt.Print(freshMount(args[1]))
		return
	}
	var got []string
	if unix.Mount("tmpfs", "/tmp", "tmpfs", 0, "") == nil {
		got = append(got, "mounts")
	}
	if fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER); err == nil {
		unix.Close(fd)
		got = append(got, "nftables")
	}
	if fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0); err == nil {
		unix.Close(fd)
		got = append(got, "packet sockets")
	}
	fmt.Print(strings.Join(got, ", "))
}

// watch takes hold, for some seconds, of every program that a process here runs and that this one does not: and tries to
// write it, while it runs and when it is over.
func watch(text string) {
	seconds, err := strconv.Atoi(text)
	if err != nil {
		fatal(err)
	}
	var own unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &own); err != nil {
		fatal(err)
	}
	type program struct {
		fd   int
		name string
	}
	held := map[[2]uint64]program{}
	tries, wrote := 0, ""
	write := func(p program) {
		tries++
		if fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", p.fd), unix.O_WRONLY, 0); err == nil {
			unix.Close(fd)
			wrote = p.name
		}
	}
	if err := os.WriteFile("up3", nil, 0o600); err != nil {
		fatal(err)
	}
	for deadline := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(deadline); {
		for _, pid := range pids() {
			fd, err := unix.Open("/proc/"+pid+"/exe", unix.O_PATH, 0)
			if err != nil {
				continue
			}
			var st unix.Stat_t
			_ = unix.Fstat(fd, &st)
			key := [2]uint64{st.Dev, st.Ino}
			if _, known := held[key]; known || key == [2]uint64{own.Dev, own.Ino} {
				unix.Close(fd)
				continue
			}
			held[key] = program{fd, readlink("/proc/" + pid + "/exe")}
			write(held[key])
		}
		for _, p := range held { // again and again: only the running keeps a file from being written (ETXTBSY)
			write(p)
		}
	}
	fmt.Printf("caught %d programs, tried %d times\n", len(held), tries)
	if wrote != "" {
		fmt.Println("wrote", wrote)
	}
}
