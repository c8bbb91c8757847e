// Package userns puts a child of ours into namespaces of its own with ids mapped into it.
//
// It reads the ranges that /etc/subuid and /etc/subgid grant (subuid(5), subgid(5)), does the
// arithmetic between the two sides of a mapping, and starts a stage of this same binary in a
// fresh user namespace, mapped by newuidmap(1) and newgidmap(1), or directly where the caller
// may (user_namespaces(7)). What happens inside is the stage's business: the package ends when
// the child's ids are mapped.
//
// It imports nothing else of cove's but its own subpackages: fork starts a process with nothing but package syscall,
// fdpass is the socket to it.
package userns
