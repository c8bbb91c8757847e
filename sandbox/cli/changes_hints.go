package cli

import (
	"errors"

	"cove/sandbox/review"
	"cove/sandbox/review/change"
)

// changesHint is what to do about what the commands on views say.
func changesHint(_ *app, err error) string {
	var conflict *change.ConflictError
	var none *change.NoChangeError
	switch {
	case errors.As(err, &conflict) && conflict.Undo:
		return "--force takes back all the same what was done there since"
	case errors.As(err, &conflict):
		return "`cove diff PATH` shows it; name other paths to apply, or overwrite what is outside with --force"
	case errors.As(err, &none):
		return "`cove diff --name-status` lists what is changed"
	case errors.Is(err, errNobodyToAsk):
		return "-f drops them without a question; a PATH drops what is there"
	case errors.Is(err, errPickNobody):
		return "`cove apply PATH...` applies without a question"
	case errors.Is(err, review.ErrNone):
		return "`cove try COMMAND` runs one under review, and so does --workspace review"
	}
	return ""
}
