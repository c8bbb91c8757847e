package network

import (
	"fmt"
	"os"
	"strconv"

	"cove/sandbox/spec"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// OpenTun makes the interface of a link that says so, in this network namespace, and returns its descriptor, for the
// parent to carry packets by. It is called while /dev and /proc are the host's, and the ids the caller's. With the device
// goes IFF_VNET_HDR: packets are handed over without checksums (tuntap.rst).
func OpenTun(link spec.Link, m userns.IDMap) (*os.File, error) {
	allowPing(m)
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	if err := makeTun(fd, link.Interface); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make interface %s: %w", link.Interface, err)
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

func makeTun(fd int, name string) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return err
	}
	// It goes with its namespace, which is the sandbox's own. Else it would go with the parent's descriptor, and closing that would wait for
	// all that the kernel has of it to be let go (rcu_barrier in netdev_run_todo): tens of milliseconds at the end of every run.
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return err
	}
	return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM)
}

// allowPing lets every group inside have ping sockets, with which ping(8) needs no capability (icmp(7)). The
// range is one of groups as the host has them, so that its ends are those of the mapping out there. Where it cannot
// be written, ping needs CAP_NET_RAW.
func allowPing(m userns.IDMap) {
	if len(m.GIDs) == 0 {
		return
	}
	low, high := m.GIDs[0], m.GIDs[0]
	for _, r := range m.GIDs {
		if r.HostID < low.HostID {
			low = r
		}
		if r.HostID+r.Size > high.HostID+high.Size {
			high = r
		}
	}
	text := strconv.FormatUint(uint64(low.ContainerID), 10) + "\t" + strconv.FormatUint(uint64(high.ContainerID+high.Size-1), 10)
	_ = os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte(text), 0)
}
