// Package stage is what runs after the re-exec, inside the namespaces: cove-init, PID 1 of every
// sandbox, and cove-leader, the leader of each terminal session.
//
//	parent                                cove-init (PID 1 inside)
//	  | ---- ids mapped, limits in force --> |  until here it touches nothing: it has no ids yet
//	  | ---- Setup{Spec, Link} ------------> |  makes its cgroup namespace; opens what lies on the host, with the caller's ids;
//	  |                                      |  becomes id 0 inside; mounts; pivot_root; network;
//	  | <--- Step (only with Debug) -------- |  after each of these
//	  | <--- Fuse (only fuse-overlayfs) ---- |  the parent starts the server, outside this pid namespace
//	  |                                      |  the spawning thread gives up what commands must not have
//	  | <--- Ready | Failed(text) ---------- |
//	  | ---- Session{Main} + socket -------> |  a client's own socket; the parent's, or one that exec brings
//	  | ---- Dial -------------------------> |  a socket connected inside, for a published port
//	  | <--- Dialed + socket --------------- |
//	  | <--- Sessions{Open} ---------------- |  after each that comes or goes
//	  | ---- Notice -----------------------> |  to every client: a limit was reached
//	  | ---- Stop{Signal} -----------------> |  to the commands; the parent kills later what remains
//
//	client                                cove-init
//	  | ---- Start{Process, TTY} + 0,1,2 --> |  forks the command; with TTY it opens a pty in the sandbox's
//	  | <--- Started (+ pty master) -------- |  own devpts and starts a cove-leader on its other side
//	  | ---- Signal -----------------------> |  to the command's process group
//	  | <--- Stopped ----------------------- |  ^Z: the client stops itself, and sends SIGCONT when it goes on
//	  | <--- Exited{Code | Signal} --------- |  after the main session's, init ends, and all of the namespace with it
//
// The parent may assume that nothing of a sandbox outlives init. Init may assume that its first
// message comes after its ids are mapped, and that the end of the control socket means that the
// parent is gone: then it ends at once. A client that closes its socket loses its command: SIGKILL.
//
// Commands are forked from one thread, the main one. What a command must not have is given up by
// that thread before the first fork: a thread's capabilities, no_new_privs, session keyring,
// landlock domain and system call filter are inherited by what it forks (credentials(7)).
package stage
