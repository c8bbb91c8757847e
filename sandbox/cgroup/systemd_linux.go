package cgroup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"path/filepath"

	"cove/sandbox/host"
	"cove/sandbox/spec"
)

const managerName = "org.freedesktop.systemd1.Manager"

// scope has systemd make a scope with the process in it.
func (g *Group) scope(ctx context.Context, s *spec.Spec, pid int) error {
	socket := host.Systemd()
	if socket == "" {
		return errors.New("systemd is gone")
	}
	unit := "cove-" + s.ID + ".scope"
	if err := startScope(ctx, socket, unit, properties(s, pid)); err != nil {
		return fmt.Errorf("have systemd start the scope %s: %w", unit, err)
	}
	own, err := groupOf(pid)
	if err != nil {
		return err
	}
	if path.Base(own) != unit {
		return fmt.Errorf("systemd started the scope %s and left the sandbox in %s", unit, own)
	}
	g.dir = filepath.Join(root, own)
	return g.enforce()
}

// startScope starts the scope and waits until that is done. On its own socket systemd tells everybody of every job.
func startScope(ctx context.Context, socket, unit string, properties []property) error {
	p, err := dial(ctx, socket)
	if err != nil {
		return err
	}
	defer p.close()
	err = p.startScope(unit, properties)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("no answer: %w", ctx.Err())
	}
	return err
}

func (p *peer) startScope(unit string, properties []property) error {
	const serial = 1
	if err := p.write(call(serial, "StartTransientUnit", unit, "fail", properties)); err != nil {
		return err
	}
	job := ""
	for {
		m, err := receive(p)
		if err != nil {
			return err
		}
		switch {
		case m.kind == typeError && m.replyTo == serial:
			if m.signature != "" && m.signature[0] == 's' {
				return fmt.Errorf("%s (%s)", m.body.string(), m.errName)
			}
			return errors.New(m.errName)
		case m.kind == typeReply && m.replyTo == serial && m.signature == "o":
			job = m.body.string()
		case m.kind == typeSignal && m.interfaceName == managerName && m.member == "JobRemoved" && m.signature == "uoss":
			m.body.uint32()
			removed, _, result := m.body.string(), m.body.string(), m.body.string()
			if job == "" || removed != job {
				continue
			}
			if result != "done" {
				return fmt.Errorf("its job ended as %q", result)
			}
			return nil
		}
	}
}

// properties are those of systemd.scope(5) and systemd.resource-control(5).
func properties(s *spec.Spec, pid int) []property {
	l := s.Limits
	all := []property{
		{"Description", "cove sandbox " + s.Name},
		{"PIDs", []uint32{uint32(pid)}},
		// A group that is delegated is not ended by systemd's own OOMPolicy. Naming the controllers keeps it from having all
		// of them in all groups beside ours.
		{"DelegateControllers", controllers(l)},
		// One that was killed is not kept as failed.
		{"CollectMode", "inactive-or-failed"},
	}
	if l.MemoryBytes > 0 {
		all = append(all, property{"MemoryMax", uint64(l.MemoryBytes)}, property{"MemorySwapMax", uint64(0)})
	}
	if l.CPUs > 0 {
		all = append(all, property{"CPUQuotaPerSecUSec", uint64(math.Round(l.CPUs * 1e6))})
	}
	if l.PIDs > 0 {
		all = append(all, property{"TasksMax", uint64(l.PIDs)})
	}
	return all
}
