package driver

import (
	"encoding/json"

	"cove/sandbox/network/builtin"
)

// attachBuiltin makes cove's own network, which carries packets once its interface has been made inside.
func attachBuiltin(opts Options) (*Link, error) {
	o := builtin.Options{Egress: opts.Egress}
	if opts.Decide != nil {
		o.Log = func(d builtin.Decision) {
			if line, err := json.Marshal(d); err == nil {
				opts.Decide(append(line, '\n'))
			}
		}
	}
	n, err := builtin.New(o)
	if err != nil {
		return nil, err
	}
	return &Link{Link: n.Link(), Driver: Builtin, Serve: n.Serve, end: n.Close, done: n.Done()}, nil
}
