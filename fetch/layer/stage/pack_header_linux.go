package stage

import (
	"archive/tar"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// linked makes h a hard link, where the same file was packed under another name.
func (p *packer) linked(h *tar.Header, st *unix.Stat_t) bool {
	if st.Nlink < 2 {
		return false
	}
	key := inode{st.Dev, st.Ino}
	if first, ok := p.links[key]; ok {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return true
	}
	p.links[key] = h.Name
	return false
}

// header writes one, after those of the directories that it is in.
func (p *packer) header(h *tar.Header) error {
	if err := p.flush(); err != nil {
		return err
	}
	p.res.Entries++
	return p.w.WriteHeader(h)
}

func (p *packer) flush() error {
	for _, h := range p.pending {
		p.res.Entries++
		if err := p.w.WriteHeader(h); err != nil {
			return err
		}
	}
	p.pending = p.pending[:0]
	return nil
}

// newHeader is what stat and, unless fd is -1, the extended attributes say.
func (p *packer) newHeader(name string, fd int, st *unix.Stat_t) (*tar.Header, error) {
	h := &tar.Header{Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX}
	if fd < 0 {
		return h, nil
	}
	xattrs, err := keptXattrs(fd)
	if err != nil {
		return nil, err
	}
	for name, value := range xattrs {
		if strings.Contains(name, "=") {
			p.res.Xattrs++ // where a PAX record's key would end
			continue
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+name] = value
	}
	return h, nil
}

// keptXattrs are the attributes that a layer may have, as they are in a tar.
func keptXattrs(fd int) (map[string]string, error) {
	names, err := listXattrs(fd)
	if err != nil {
		return nil, err
	}
	var out map[string]string
	for _, name := range names {
		if !keepXattr(name) {
			continue
		}
		value, err := getXattr(fd, name)
		if err == unix.ENODATA {
			continue // just taken off
		}
		if err != nil {
			return nil, fmt.Errorf("extended attribute %q: %w", name, err)
		}
		if name == xattrCaps {
			value = forThisRoot(value)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = string(value)
	}
	return out, nil
}
