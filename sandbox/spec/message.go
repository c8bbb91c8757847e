package spec

// The messages of the control socket (parent and init) and of a session (a client and init).
// sandbox/stage/doc.go draws who says what when.

// ToInit is what the parent says. Exactly one field is set.
type ToInit struct {
	Setup *Setup `json:"setup,omitempty"` // once, first; descriptors: see Setup
	Begin bool   `json:"begin,omitempty"` // once, second, after the ids are mapped
	// Attached comes third, where Setup has a Main and a Link with Tun: the network is attached, and the main command may begin.
	Attached bool     `json:"attached,omitempty"`
	Session  *Session `json:"session,omitempty"` // one descriptor: the session's socket
	Dial     *Dial    `json:"dial,omitempty"`    // answered by FromInit.Dialed
	Stop     *Stop    `json:"stop,omitempty"`
	Notice   string   `json:"notice,omitempty"` // something that whoever works inside should know
	Hold     *Hold    `json:"hold,omitempty"`   // answered by FromInit.Held, and ended by Release
	Release  bool     `json:"release,omitempty"`
	Echo     uint64   `json:"echo,omitempty"` // answered by FromInit.Echo when a Notice that came before is with every client
}

// Setup carries the Spec and the descriptors that come with it, in order: one mount per Idmapped
// mount of the Spec, then Main's session socket and its descriptors.
type Setup struct {
	Spec  *Spec  `json:"spec"`
	Link  Link   `json:"link"`
	Main  *Start `json:"main,omitempty"`  // the main command, whose Process is the Spec's; its end ends the sandbox
	Debug bool   `json:"debug,omitempty"` // tell each step
	// Filter is the program of system calls for Spec.Landlock.
	Filter []byte `json:"filter,omitempty"`
	// Slack is how late the commands' timers may be, in nanoseconds (PR_SET_TIMERSLACK(2const)): the caller's own.
	Slack int `json:"slack,omitempty"`
}

// Link is the network that the parent attached, for init to configure inside.
type Link struct {
	Interface string   `json:"interface,omitempty"` // "" where there is none
	Tun       bool     `json:"tun,omitempty"`       // init makes the interface and sends its descriptor: see FromInit.Tun
	MTU       int      `json:"mtu,omitempty"`
	Addresses []Prefix `json:"addresses,omitempty"` // the sandbox's own, with their networks
	Gateways  []IP     `json:"gateways,omitempty"`
	DNS       []IP     `json:"dns,omitempty"`
	Closed    []Prefix `json:"closed,omitempty"`   // what must not be reachable
	NoTCPDNS  bool     `json:"noTCPDNS,omitempty"` // the driver's name server answers over UDP alone
}

// Session announces a client's own socket. Main marks the command whose end ends the sandbox.
type Session struct {
	Main bool `json:"main,omitempty"`
	Same bool `json:"same,omitempty"` // the client is this very program: its messages are package wire's
}

// Dial asks for a socket connected to a port of the sandbox's own loopback.
type Dial struct {
	Serial uint64 `json:"serial"`
	Proto  string `json:"proto"`
	Port   uint16 `json:"port"`
}

// Stop asks init to end everything: Signal to the main commands now; the parent sends SIGKILL when it has waited enough.
type Stop struct {
	Signal int `json:"signal"`
}

// Hold asks for the root file system to be left alone for a while, so that it can be read.
type Hold struct {
	Pause bool `json:"pause"` // stop all processes; otherwise only say what there is to say
}

// Held answers Hold.
type Held struct {
	Placed  []Placed `json:"placed,omitempty"`
	Running int      `json:"running,omitempty"` // processes that could not be stopped
}

// FromInit is what init says to the parent. Exactly one field is set.
type FromInit struct {
	Ready    bool      `json:"ready,omitempty"`
	Failed   *Failed   `json:"failed,omitempty"`
	Sessions *Sessions `json:"sessions,omitempty"`
	Dialed   *Dialed   `json:"dialed,omitempty"` // one descriptor when Error is empty
	Step     string    `json:"step,omitempty"`   // what was just done, when Setup.Debug asks for it
	Fuse     bool      `json:"fuse,omitempty"`   // one descriptor: /dev/fuse, mounted, waiting for its server
	FuseOf   int       `json:"fuseOf,omitempty"` // what it is to serve: 0 the root file system, N the N-th of the Spec's mounts, from 1
	Tun      bool      `json:"tun,omitempty"`    // one descriptor: the interface of a Link that says so
	Held     *Held     `json:"held,omitempty"`
	Placed   []Placed  `json:"placed,omitempty"` // before Ready, of a root file system that is kept: what was put into it
	Prepared *Prepared `json:"prepared,omitempty"`
	// Listening comes with a descriptor for each of Integrations.Sockets, which are listened on.
	Listening bool   `json:"listening,omitempty"`
	Echo      uint64 `json:"echo,omitempty"`
}

// Prepared comes before Ready, when Root.Prepare has got its layer.
type Prepared struct {
	Placed []Placed `json:"placed"` // what is in it
}

// Failed says which step of the set-up went wrong, as one line of text.
type Failed struct {
	Text  string `json:"text"`
	Errno int    `json:"errno,omitempty"` // where a system call was the cause
}

// Sessions tells how many sessions are open after one came or went, and how many the parent has handed in so far.
type Sessions struct {
	Seen int `json:"seen"`
	Open int `json:"open"`
}

// Dialed answers Dial.
type Dialed struct {
	Serial uint64 `json:"serial"`
	Error  string `json:"error,omitempty"`
}

// FromClient is what a session's client says to init. Exactly one field is set.
type FromClient struct {
	Start  *Start `json:"start,omitempty"`  // once, first, unless it came with the Setup; descriptors: 0, 1 and 2 unless TTY
	Signal int    `json:"signal,omitempty"` // for the command's process group
}

// Start is the command of a session.
type Start struct {
	Process Process `json:"process"`
	// Changes are given in place of Process where both ends are one program.
	Changes *Changes `json:"changes,omitempty"`
	TTY     bool     `json:"tty,omitempty"`
	Rows    uint16   `json:"rows,omitempty"`
	Cols    uint16   `json:"cols,omitempty"`
}

// ToClient is what init says to a session's client. Exactly one field is set.
type ToClient struct {
	Taken   bool     `json:"taken,omitempty"`   // the Start was read: from here on the command may have run
	Started *Started `json:"started,omitempty"` // one descriptor when TTY: the pty's master
	Stopped bool     `json:"stopped,omitempty"` // the command was stopped by a signal (^Z)
	Exited  *Exited  `json:"exited,omitempty"`
	Notice  string   `json:"notice,omitempty"` // something that whoever works inside should know
}

// Started says that the command runs.
type Started struct{}

// Exited is how a command ended: Signal, or Code when Signal is 0. When it never ran, Code is one
// of 125, 126 and 127 and Text says why. Last says that it was the main command, and that nobody but init is left
// inside, nor will be.
type Exited struct {
	Code   int    `json:"code"`
	Signal int    `json:"signal,omitempty"`
	Text   string `json:"text,omitempty"`
	Last   bool   `json:"last,omitempty"`
}
