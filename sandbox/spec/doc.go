// Package spec is the complete decision about one sandbox, and the messages between its parent
// and what runs inside: plain data, no behaviour. Plan makes a Spec, the init stage carries it
// out, and `cove run --dry-run` prints it as JSON. Paths may hold any byte but NUL; see Path.
package spec
