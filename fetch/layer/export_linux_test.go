package layer

import "time"

// SetWatch changes how soon a stage is found to be stuck, for a test.
func SetWatch(stuck, every time.Duration) (restore func()) {
	was, wasEvery := stuckAfter, watchEvery
	stuckAfter, watchEvery = stuck, every
	return func() { stuckAfter, watchEvery = was, wasEvery }
}
