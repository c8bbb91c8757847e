package start

import (
	"slices"

	"cove/sandbox"
)

// shapes says which part of a sandbox an option is about; "" is none: what one command in it has, or how the image is
// come by. An option that is not here is about all of it.
var shapes = map[string]string{
	"env": "", "env-file": "", "workdir": "", "user": "", "pull": "", "frozen": "", "offline": "", "verify-key": "", "rebuild": "", "best-effort": "",
	"dry-run": "",
	"image":   sandbox.PartImage, "platform": sandbox.PartImage,
	"workspace": sandbox.PartFiles, "repository": sandbox.PartFiles, "home": sandbox.PartFiles, "volume": sandbox.PartFiles, "mount": sandbox.PartFiles,
	"tmpfs": sandbox.PartFiles, "read-only": sandbox.PartFiles, "persist": sandbox.PartFiles,
	"network": sandbox.PartNetwork, "allow": sandbox.PartNetwork, "deny": sandbox.PartNetwork, "host-port": sandbox.PartNetwork,
	"driver": sandbox.PartNetwork, "publish": sandbox.PartNetwork,
	"cap-add": sandbox.PartSecurity, "cap-drop": sandbox.PartSecurity, "security-opt": sandbox.PartSecurity, "nested": sandbox.PartSecurity,
	"memory": sandbox.PartLimits, "cpus": sandbox.PartLimits, "pids-limit": sandbox.PartLimits, "timeout": sandbox.PartLimits,
	"ssh-agent": sandbox.PartIntegrations, "ssh-agent-confirm": sandbox.PartIntegrations, "git": sandbox.PartIntegrations,
	"git-credentials": sandbox.PartIntegrations, "browser": sandbox.PartIntegrations, "notify": sandbox.PartIntegrations,
	"name": sandbox.PartName, "hostname": sandbox.PartHostname,
}

// shaped are the parts of a sandbox that options say something of.
func shaped(l Line) []string {
	var parts []string
	for _, f := range Flags {
		part, known := shapes[f.Name]
		if !known {
			part = sandbox.PartAll
		}
		if l.IsSet(f.Name) && part != "" && !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	return parts
}
