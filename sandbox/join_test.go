package sandbox

import (
	"slices"
	"testing"

	"cove/sandbox/spec"
)

// TestPartsOfIntegrations: who joins a sandbox is told of every grant that is another one, and of nothing that is a terminal's own.
func TestPartsOfIntegrations(t *testing.T) {
	whole := func() *spec.Integrations {
		return &spec.Integrations{
			SSHAgent: &spec.SSHAgent{Socket: "/run/a", Keys: []spec.SSHKey{{Comment: "k"}}, Confirm: true, Askpass: "/usr/bin/ask"},
			Git:      &spec.Git{Identity: true}, Wayland: &spec.Wayland{Socket: "/run/w"}, X11: &spec.X11{Display: 1}, Audio: &spec.Audio{Socket: "/run/p"},
			Devices: []spec.Device{{Source: "/dev/dri/renderD128", Target: "/dev/dri/renderD128"}},
		}
	}
	parts := func(i *spec.Integrations) []part { return partsOf(&spec.Spec{Integrations: i}) }
	for name, change := range map[string]func(*spec.Integrations){
		"confirm":  func(i *spec.Integrations) { i.SSHAgent.Confirm = false },
		"keys":     func(i *spec.Integrations) { i.SSHAgent.Keys[0].Comment = "other" },
		"no agent": func(i *spec.Integrations) { i.SSHAgent = nil },
		"git":      func(i *spec.Integrations) { i.Git.Credentials = []string{"example.com"} },
		"browser":  func(i *spec.Integrations) { i.Browser = true },
		"notify":   func(i *spec.Integrations) { i.Notify = true },
		"wayland":  func(i *spec.Integrations) { i.Wayland = nil },
		"x11":      func(i *spec.Integrations) { i.X11.Trusted = true },
		"record":   func(i *spec.Integrations) { i.Audio.Record = true },
		"audio":    func(i *spec.Integrations) { i.Audio = nil },
		"gpu":      func(i *spec.Integrations) { i.Devices = nil },
	} {
		i := whole()
		change(i)
		if slices.Equal(parts(i), parts(whole())) {
			t.Errorf("%s: is not told", name)
		}
	}
	i := whole()
	i.SSHAgent.Socket, i.SSHAgent.Askpass, i.Wayland.Socket, i.X11.Display, i.Audio.Socket = "/b", "/b", "/b", 2, "/b"
	if !slices.Equal(parts(i), parts(whole())) {
		t.Error("another terminal's sockets are told")
	}
}
