package start

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"cove/fetch/image"
)

// BoundFlags are the options of whatever may pull an image. A profile has no say in them: it may come with the image.
var BoundFlags = []Flag{
	{Name: "max-size", Usage: "of an image that unpacks to more than `SIZE`, refuse to pull it (64GiB)"},
	{Name: "max-entries", Usage: "and of one with more than `N` files in a layer (4000000)"},
	{Name: "max-ratio", Usage: "and of one with a layer that unpacks to more than `N` times its size (200, beyond 256MiB)"},
	{Name: "max-manifest", Usage: "and of one with a manifest of more than `SIZE` (4MiB)"},
	{Name: "max-depth", Usage: "and of one with more than `N` indexes above its manifest (4)"},
	{Name: "max-time", Usage: "give a pull up after `TIME`: seconds, or such as 2h (12h)"},
}

// Bounds are what may be pulled, by the options, or else by the environment: COVE_MAX_SIZE for --max-size.
func Bounds(l Line) (image.Bounds, error) {
	var b image.Bounds
	for name, set := range map[string]func(string) error{
		"max-size": size(&b.Bytes), "max-entries": count(&b.Entries), "max-ratio": count(&b.Ratio), "max-manifest": size(&b.Manifest),
		"max-depth": func(s string) error {
			var n int64
			err := count(&n)(s)
			b.Depth = int(min(n, 64))
			return err
		},
		"max-time": func(s string) (err error) {
			b.Time, err = time.ParseDuration(s)
			if err != nil {
				b.Time, err = time.ParseDuration(s + "s")
			}
			if err != nil || b.Time <= 0 {
				return fmt.Errorf("want a time such as 90s or 2h")
			}
			return nil
		},
	} {
		from, text := "--"+name, l.String(name)
		if !l.IsSet(name) {
			from = BoundVariable(name)
			if text = os.Getenv(from); text == "" {
				continue
			}
		}
		if err := set(text); err != nil {
			return b, Usagef("%s %s: %v", from, strconv.Quote(text), err)
		}
	}
	return b, nil
}

// BoundVariable is the variable that is used when an option is not given.
func BoundVariable(flag string) string {
	return "COVE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func size(to *int64) func(string) error {
	return func(text string) (err error) {
		*to, err = parseSize(text)
		if err != nil {
			err = fmt.Errorf("want a size such as 64m or 100GiB")
		}
		return err
	}
}

func count(to *int64) func(string) error {
	return func(text string) error {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n <= 0 {
			return fmt.Errorf("want a number above 0")
		}
		*to = n
		return nil
	}
}
