package fetch

import (
	"io/fs"
	"syscall"
)

func owner(st fs.FileInfo) uint32 { return st.Sys().(*syscall.Stat_t).Uid }
