package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminalSize is the size of the terminal that f is; false when it is none.
func terminalSize(f *os.File) (rows, cols int, ok bool) {
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0, false
	}
	rows, cols = int(ws.Row), int(ws.Col)
	if rows == 0 {
		rows = 24
	}
	if cols == 0 {
		cols = 80
	}
	return rows, cols, true
}
