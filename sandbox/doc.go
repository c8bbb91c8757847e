// Package sandbox decides about one sandbox and runs it: Plan makes a complete Spec from the
// profile, the host, the id mapping and the image; Run starts the stage that carries it out, and
// returns how the command ended. Shell, Exec, List and Stop deal with sandboxes that run.
//
// What happens inside the namespaces is package stage's; what the kernel allows is package host's. The packages below,
// in the order in which `cove run` comes by them:
//
//	need, early      while Go's packages are initialised: is there enough of everything; init is forked
//	quick, cli       the command line: the usual run before package cli is ready, everything else by cli
//	start            from the options to the decision: profile, trust, host, image, Plan
//	host             what this machine allows
//	seccomp          the system call filter, with seccompfile for those that people write
//	spec             the decision, and the messages that carry it
//	cgroup           limits in force, before init has anything to do
//	network/driver   the network's half outside: slirp4netns and pasta, published ports
//	integration      what of the caller's session is used inside; its subpackage outside serves it
//	review           the copy-on-write views of projects, and below it what is in them
//	stage            init, inside; rootfs and network are its steps, memory and signals what it sees to besides
//	console          the caller's terminal, pipes and signals, until the command has ended
//	trace            when each step of this was done, for who asks
package sandbox
