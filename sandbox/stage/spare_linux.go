package stage

import (
	"runtime"
	"time"

	"cove/sandbox/spec"
)

const spareThreads = 6

// spare makes threads before they are needed, where there is a limit on them: Go's runtime ends the program when it
// cannot make one, and with PID 1 all of the sandbox would end. So `cove exec` says that nothing more can be started, and
// `cove stop` is heard.
func spare(l spec.Limits) {
	if l.PIDs == 0 {
		return
	}
	// A fork bomb takes longer to fill the limit.
	time.AfterFunc(unhurried, func() {
		// Each of these has a thread of its own for as long as it waits, which the runtime keeps afterwards.
		release := make(chan struct{})
		for range spareThreads {
			go func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				<-release
			}()
		}
		time.AfterFunc(unhurried, func() { close(release) })
	})
}
