package driver

import "cove/sandbox/network/builtin"

// attachBuiltin makes cove's own network, which carries packets once its interface has been made inside.
func attachBuiltin(opts Options) (*Link, error) {
	n, err := builtin.New(builtin.Options{Egress: opts.Egress, Log: opts.Decide})
	if err != nil {
		return nil, err
	}
	return &Link{Link: n.Link(), Driver: Builtin, Serve: n.Serve, end: n.Close, done: n.Done()}, nil
}
