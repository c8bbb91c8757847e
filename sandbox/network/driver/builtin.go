package driver

import (
	"cove/sandbox/network/builtin"

	"golang.org/x/net/http/httpproxy"
)

// attachBuiltin makes cove's own network, which carries packets once its interface has been made inside.
func attachBuiltin(opts Options) (*Link, error) {
	o := builtin.Options{Egress: opts.Egress, Log: opts.Decide}
	if opts.Egress.Proxy {
		o.Proxy = httpproxy.FromEnvironment().ProxyFunc()
	}
	n, err := builtin.New(o)
	if err != nil {
		return nil, err
	}
	return &Link{Link: n.Link(), Driver: Builtin, Serve: n.Serve, end: n.Close, done: n.Done()}, nil
}
