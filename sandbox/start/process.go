package start

import (
	"context"
	"os"
	"syscall"

	"cove/sandbox/signals"
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
func UntilSignal() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	c := make(chan os.Signal, 1)
	signals.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		select {
		case sig := <-c:
			signals.Stop(c)
			cancel(Interrupted{Signal: int(sig.(syscall.Signal))})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signals.Stop(c)
		cancel(nil)
	}
}
