package cli

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cove/sandbox"
	"cove/sandbox/host"
	"cove/sandbox/network"
	"cove/sandbox/network/builtin"
	"cove/sandbox/network/driver"
	"cove/sandbox/start"

	"golang.org/x/sys/unix"
)

// networkChecks start each driver of a user-mode network, side by side.
func (a *app) networkChecks(h *host.Host) []check {
	if !h.UserNS.OK {
		return nil
	}
	drivers := []struct{ name, path string }{{network.Builtin, "cove itself"}, {driver.Slirp, h.Helpers.Slirp4netns}, {driver.Pasta, h.Helpers.Pasta}}
	errs := make([]error, len(drivers))
	var all sync.WaitGroup
	for i, d := range drivers {
		if d.path == "" || !h.DevNetTun.OK {
			continue
		}
		all.Go(func() {
			m, err := start.IDMap(h, 0, 0)
			if err == nil {
				err = sandbox.TryNetwork(a.Ctx, m, a.Network, d.name)
			}
			errs[i] = err
		})
	}
	all.Wait()
	var checks []check
	for i, d := range drivers {
		k := check{Name: d.name, OK: d.path != "" && h.DevNetTun.OK && errs[i] == nil, Found: d.path + " carried a network, its filter in place"}
		if d.name == network.Builtin {
			k.Name, k.Found = "network", "cove's own carried a packet to its name server and back"
		}
		if !k.OK {
			k.Found, k.Fix = a.here().networkProblem(h, d.name, d.path, errs[i])
			k.Lost = fmt.Sprintf("nothing, unless network.driver = %q", d.name)
			if d.name == network.Builtin {
				k.Lost = `network.mode = "user"`
			}
		}
		checks = append(checks, k)
		if d.name == network.Builtin && k.OK {
			checks = append(checks, pingCheck(h.GID, builtin.Pingable()))
		}
	}
	return checks
}

// pingCheck is about the echo requests of a sandbox, which go out by a ping socket of the user's (icmp(7)).
func pingCheck(gid uint32, err error) check {
	k := check{Name: "ping", OK: err == nil, Found: "this user may have ping sockets"}
	if err == nil {
		return k
	}
	k.Found = "open a ping socket: " + err.Error()
	k.Lost = `ping out of a sandbox with network.mode = "user": what it sends is answered as unreachable`
	if errors.Is(err, unix.EACCES) {
		k.Found += fmt.Sprintf(" (group %d is not in net.ipv4.ping_group_range)", gid)
		k.Fix = "echo 'net.ipv4.ping_group_range = 0 2147483647' | sudo tee /etc/sysctl.d/60-ping.conf && sudo sysctl -p /etc/sysctl.d/60-ping.conf"
	}
	return k
}

func (p place) networkProblem(h *host.Host, name, path string, err error) (found, fix string) {
	switch {
	case path == "":
		return "not on PATH", p.install(name)
	case !h.DevNetTun.OK:
		return h.DevNetTun.Why, p.deviceFix("/dev/net/tun", "tun", h.DevNetTun)
	case strings.Contains(err.Error(), network.NoFilter):
		return err.Error(), p.filterFix()
	}
	return err.Error(), p.install(name) + "   # a newer one, or the other driver"
}

func (p place) hostNetworkCheck(h *host.Host) check {
	k := check{Name: "host network", OK: h.LandlockScope, Found: fmt.Sprintf("landlock ABI %d", h.LandlockABI)}
	if h.Deep != nil && k.OK {
		k.OK, k.Found = h.Deep.Scope.OK, "an abstract socket was out of reach for a landlock domain"
	}
	if !k.OK {
		k.Found = fmt.Sprintf("landlock ABI %d has no scope", h.LandlockABI)
		switch {
		case h.LandlockABI == 0:
			k.Found = "no landlock"
		case h.LandlockScope:
			k.Found = h.Deep.Scope.Why
		}
		k.Lost = `network.mode = "host" is refused without --best-effort: abstract sockets could not be closed`
		k.Fix = "a kernel of 6.12 or newer " + landlockFix
	}
	return k
}
