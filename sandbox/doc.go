// Package sandbox decides about one sandbox and runs it: Plan makes a complete Spec from the
// profile, the host, the id mapping and the image; Run starts the stage that carries it out, and
// returns how the command ended. Shell, Exec, List and Stop deal with sandboxes that run.
//
// What happens inside the namespaces is package stage's; what the kernel allows is package host's.
package sandbox
