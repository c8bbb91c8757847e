package start

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Exit ends this process; a test learns the code in between.
var Exit = os.Exit

// Interrupted is the cause of a context that a signal ended.
type Interrupted struct{ Signal int }

func (i Interrupted) Error() string { return "interrupted" }

// KeepOwnerBits lets this process use what it makes: under a umask such as 0777 it could not even enter a folder of its
// own, nor the next cove remove it.
func KeepOwnerBits() {
	old := syscall.Umask(0o077)
	syscall.Umask(old &^ 0o700)
}

// UntilSignal is a context that ends when somebody wants cove to end. A second signal ends cove at once. Who hands
// signals on to a command inside listens for itself.
//
// Each signal that is listened for takes two turns between threads (package os/signal changes the mask of one that it
// keeps), which nobody waits for here: before that is done a signal ends cove as it ends any program.
func UntilSignal() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	c := make(chan os.Signal, 1)
	listening := make(chan struct{})
	go func() {
		for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
			if !signal.Ignored(sig) { // nohup(1), and a shell's background jobs
				signal.Notify(c, sig)
			}
		}
		close(listening)
		sig := <-c
		signal.Stop(c)
		cancel(Interrupted{Signal: int(sig.(syscall.Signal))})
	}()
	return ctx, func() {
		<-listening
		signal.Stop(c)
		cancel(nil)
	}
}
