// Package stage is what runs after the re-exec, inside the namespaces: cove-init, PID 1 of every
// sandbox, and cove-leader, the leader of each terminal session. takeover_linux.go has the names of all stages.
//
//	parent                                cove-init (PID 1 inside)
//	  | ---- Setup{Spec, Link, Main} ------> |  with idmapped mounts; with Main, the main session's socket and 0,1,2; as soon as it
//	  |                                      |  is known, while ids are mapped: it has none yet, does what takes none, and makes nothing
//	  | ---- ids mapped, limits in force --> |
//	  | ---- Begin ------------------------> |  makes its cgroup namespace; opens what lies on the host, with the caller's ids;
//	  |                                      |  becomes id 0 inside; mounts; pivot_root; network;
//	  | <--- Step (only with Debug) -------- |  after each of these
//	  | <--- Fuse (only fuse-overlayfs) ---- |  the parent starts the server, outside this pid namespace; for the root, and each view
//	  | <--- Listening + sockets ----------- |  what the parent serves inside, where something of [host] was granted
//	  |                                      |  the spawning thread gives up what commands must not have
//	  | <--- Placed (only where it is kept)  |  what was put into the root file system
//	  | <--- Prepared (only when asked) ---- |  the same as a layer of its own, for the starts to come
//	  | <--- Ready | Failed(text) ---------- |
//	  | ---- Attached ---------------------> |  where Link has Tun, and only when the network is attached, which it may be before Ready
//	  |                                      |  then Main is started, as by a Start on its socket
//	  | ---- Session{Main, Same} + socket -> |  a client's own socket, of exec and shell; Main: where ports are published,
//	  |                                      |  the main command waits for that, and comes so
//	  | ---- Dial -------------------------> |  a socket connected inside, for a published port
//	  | <--- Dialed + socket --------------- |
//	  | <--- Sessions{Open, Seen} ---------- |  after each that comes or goes, but Setup's
//	  | ---- Notice -----------------------> |  to every client: a limit was reached, a page was opened
//	  | ---- Echo -------------------------> |
//	  | <--- Echo -------------------------- |  the notice is on its way to the clients, before whatever they are told later
//	  | ---- Hold{Pause} ------------------> |  its processes are stopped, and no other is started
//	  | <--- Held{Placed} ----------------- |  with what cove put into the root file system, which the caller reads
//	  | ---- Release ----------------------> |  they go on
//	  | ---- Stop{Signal} -----------------> |  to the commands; the parent kills later what remains
//
//	client                                cove-init
//	  | ---- Start{Process, TTY} + 0,1,2 --> |  (Setup.Main is that for the main command) forks it; with TTY it opens a pty in the sandbox's
//	  | <--- Taken, Started (+ pty master) - |  own devpts and starts a cove-leader on its other side
//	  | ---- Signal -----------------------> |  to the command's process group
//	  | <--- Stopped ----------------------- |  ^Z: the client stops itself, and sends SIGCONT when it goes on
//	  | <--- Exited{Code | Signal} --------- |  after the main session's, init ends, and all of the namespace with it;
//	  |                                      |  at once with Last: there was nobody else. With a control group, which the
//	  |                                      |  parent has still to look at, it waits to be killed
//
// The parent may assume that nothing of a sandbox outlives init. Init may assume that Begin
// comes after its ids are mapped, and that the end of the control socket means that the
// parent is gone: then it ends at once. A client that closes its socket loses its command: SIGKILL.
//
// Both ends of the control socket, and of the session that comes with a Setup, are one program: its messages are
// package wire's. Another cove's session, which may be of another version, speaks JSON; one that is the same program says so to the parent (Same),
// and need not know the sandbox's Process: it sends the Changes.
//
// Commands are forked from one thread, the main one. What a command must not have is given up by
// that thread before the first fork: a thread's capabilities, no_new_privs, session keyring,
// landlock domain and system call filter are inherited by what it forks (credentials(7)).
//
// Where there are no namespaces, cove-landlock stands in for cove-init and says the same: it has no ids to wait for, and no Begin,
// makes a landlock ruleset instead of a root file system, and ends what commands leave. Its own threads are under
// neither ruleset nor filter: each command is forked as cove-confine, which puts itself under both and becomes the command.
package stage
