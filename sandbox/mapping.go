package sandbox

import (
	"context"

	"cove/sandbox/early"
	"cove/sandbox/spec"
	"cove/sandbox/trace"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// mappingIDs is an init stage that is being started in its namespaces, and whose ids are then mapped: the kernel and the
// helpers that do it take their time, in which the parent has other things to do.
type mappingIDs struct {
	forked chan struct{} // closed when child is there, or will never be
	child  *userns.Child
	done   chan error
}

// mapped is a stage whose ids need not be mapped.
func mapped(child *userns.Child) *mappingIDs {
	m := &mappingIDs{forked: make(chan struct{}), child: child, done: make(chan error, 1)}
	close(m.forked)
	m.done <- nil
	return m
}

func beginMapping(ctx context.Context, s *spec.Spec) *mappingIDs {
	m := &mappingIDs{forked: make(chan struct{}), done: make(chan error, 1)}
	go func() { m.done <- m.run(ctx, s) }()
	return m
}

func (m *mappingIDs) run(ctx context.Context, s *spec.Spec) (err error) {
	namespaces := early.Namespaces
	if s.Network.Mode == "host" {
		namespaces &^= unix.CLONE_NEWNET
	}
	m.child, err = takeInit(namespaces)
	close(m.forked)
	if err != nil {
		return err
	}
	trace.Step("took init")
	wait, err := m.child.StartMap(ctx, s.IDMap)
	if err != nil {
		return err
	}
	trace.Step("started the helpers")
	err = wait()
	trace.Step("mapped ids")
	return err
}

// discardEarly ends the init that package early has started, if it has, for who needs none.
func discardEarly() {
	if stage := early.Take(); stage != nil {
		if child, err := userns.Adopt(stage.Forked, stage.Conn); err == nil {
			child.Discard()
		}
	}
}

// takeInit is the init stage that package early has started, when it is as wanted, or else another.
func takeInit(namespaces uintptr) (*userns.Child, error) {
	if stage := early.Take(); stage != nil {
		child, err := userns.Adopt(stage.Forked, stage.Conn)
		if err != nil || namespaces == stage.Namespaces {
			return child, err
		}
		child.Discard()
	}
	return userns.Fork(userns.Config{Stage: early.InitName, Namespaces: namespaces, Env: early.Env(), Slack: early.Slack})
}

// wait returns when the ids are mapped, or why they are not.
func (m *mappingIDs) wait() error {
	err := <-m.done
	m.done <- err // for whoever asks next
	return err
}

func (m *mappingIDs) discard() {
	_ = m.wait()
	if m.child != nil {
		m.child.Discard()
	}
}
