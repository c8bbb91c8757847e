package main

import "strings"

// bait is what lay put out on the host, as the program inside is told of it.
type bait struct {
	Tool       string            `json:"tool"`       // path of the tool's file on the host
	ToolFile   [2]uint64         `json:"toolfile"`   // its device and inode
	UID        int               `json:"uid"`        // who called
	Marker     string            `json:"marker"`     // a word that names of the host have and nothing inside may
	Work       string            `json:"work"`       // the folder that the sandbox was given
	PID        int               `json:"pid"`        // a process of the host
	NS         map[string]string `json:"ns"`         // the host's namespaces
	Hostname   string            `json:"hostname"`   //
	Files      []string          `json:"files"`      // of the host, with a secret in each
	Dirs       []string          `json:"dirs"`       // of the host, whose names are to stay there
	Sockets    []string          `json:"sockets"`    // of the host, somebody listens
	Abstract   string            `json:"abstract"`   // likewise
	Port       int               `json:"port"`       // TCP and UDP on all of the host's addresses
	Addresses  []string          `json:"addresses"`  // the host's
	ShmKey     int               `json:"shmkey"`     // System V, of all three kinds
	ShmID      int               `json:"shmid"`      //
	Queue      string            `json:"queue"`      // POSIX
	Key        int               `json:"key"`        // serial of a key in the caller's user keyring
	SessionKey int               `json:"sessionkey"` // serial of one in the caller's session keyring
	LockInode  uint64            `json:"lockinode"`  // of a file that the host holds a lock on
	OOM        int               `json:"oom"`        // the caller's oom_score_adj
	Grants     []string          `json:"grants"`     // "network=host", "network=user", "tty", ...
}

func (b *bait) grants(what string) bool {
	for _, g := range b.Grants {
		if g == what {
			return true
		}
	}
	return false
}

// namesHost reports whether a text tells of a folder of the host's.
func (b *bait) namesHost(text string) bool {
	for _, dir := range append(b.Dirs, b.Marker) {
		if strings.Contains(text, dir) {
			return true
		}
	}
	return false
}

const (
	secret  = "the probe's secret"
	envName = "PROBE_OUTSIDE"
	keyName = "probe-outside"
)
