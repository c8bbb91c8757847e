package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// What a limit is too small for: a sandbox that has less does not start, or cannot do anything.
const (
	minMemory = 16 << 20
	minCPUs   = 0.01 // the kernel's: 1 ms in 100 ms
	minPIDs   = 32   // those of cove itself inside are among them
)

func setMemory(p *Profile, c *change) {
	s, ok := c.text()
	if !ok {
		return
	}
	n, err := parseMemory(s)
	if err != nil {
		c.bad(c.key, s, "%v", err)
		return
	}
	p.Limits.MemoryBytes = n
	c.from(p)
}

// parseMemory reads 2GiB, 512m or 1.5g: powers of 1024, as for docker's and podman's --memory. "0" is no limit.
func parseMemory(text string) (int64, error) {
	number := strings.TrimRight(text, "kKmMgGtTiIbB")
	unit := strings.ToLower(text[len(number):])
	shift, known := map[string]int{"": 0, "b": 0, "k": 10, "kib": 10, "ki": 10, "m": 20, "mib": 20, "mi": 20,
		"g": 30, "gib": 30, "gi": 30, "t": 40, "tib": 40, "ti": 40}[unit]
	if !known {
		if len(unit) == 2 && unit[1] == 'b' {
			unit = strings.ToUpper(unit[:1]) + "iB"
			return 0, fmt.Errorf("a power of 1000 or of 1024? write %q for the latter", number+unit)
		}
		return 0, errors.New("want a size such as 512MiB or 2GiB")
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !plainNumber(number) {
		return 0, errors.New("want a size such as 512MiB or 2GiB")
	}
	bytes := n * float64(int64(1)<<shift)
	switch {
	case bytes == 0:
		return 0, nil
	case bytes < minMemory:
		return 0, errors.New("is too little for a sandbox to start (at least 16MiB)")
	case bytes >= 1<<62:
		return 0, errors.New("is more than any machine has")
	}
	return int64(bytes), nil
}

// plainNumber leaves out what ParseFloat knows besides: signs, exponents, hexadecimal, Inf and NaN.
func plainNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789.") == "" }

// number is the value as a number; flags bring it as text.
func (c *change) number() (float64, bool) {
	switch v := c.value.(type) {
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case float64:
		return v, true
	case string:
		if n, err := strconv.ParseFloat(v, 64); err == nil && plainNumber(strings.TrimPrefix(v, "-")) && c.origin(c.key).Kind == FromFlag {
			return n, true
		}
	}
	c.bad(c.key, c.value, "want a number, not %s", kindOf(c.value))
	return 0, false
}

func setCPUs(p *Profile, c *change) {
	n, ok := c.number()
	switch {
	case !ok:
		return
	case math.IsNaN(n) || n < 0 || n > 1<<20:
		c.bad(c.key, c.value, "want a number of processors such as 1.5")
		return
	case n != 0 && n < minCPUs:
		c.bad(c.key, c.value, "is too little for a sandbox to run (at least 0.01)")
		return
	}
	p.Limits.CPUs = n
	c.from(p)
}

func setPIDs(p *Profile, c *change) {
	n, ok := c.number()
	switch {
	case !ok:
		return
	case n == -1:
		n = 0 // podman's word for no limit
	case n != math.Trunc(n) || n < 0 || n > 1<<22: // PID_MAX_LIMIT, proc_sys_kernel(5)
		c.bad(c.key, c.value, "want a whole number of processes, at most 4194304, or -1 for no limit")
		return
	case n != 0 && n < minPIDs:
		c.bad(c.key, c.value, "is too little for a sandbox to run (at least %d)", minPIDs)
		return
	}
	p.Limits.PIDs = int64(n)
	c.from(p)
}

func setTimeout(p *Profile, c *change) {
	s, ok := c.text()
	if !ok {
		return
	}
	d, err := parseTimeout(s)
	if err != nil {
		c.bad(c.key, s, "%v", err)
		return
	}
	p.Limits.Timeout = d
	c.from(p)
}

// parseTimeout reads 90s, 10m or 1h30m; a number alone is seconds, as for timeout(1) and podman. "0" is no limit.
func parseTimeout(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil && plainNumber(text) {
		d, err = time.ParseDuration(text + "s")
	}
	switch {
	case err != nil:
		return 0, errors.New("want a time such as 90s, 10m or 1h30m")
	case d < 0:
		return 0, errors.New("lies in the past")
	}
	return d, nil
}

// ShowSize is a number of bytes as parseMemory reads it, in the largest unit that leaves no fraction.
func ShowSize(n int64) string {
	units := []string{"", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n != 0 && n%1024 == 0 && i < len(units)-1 {
		n, i = n/1024, i+1
	}
	return strconv.FormatInt(n, 10) + units[i]
}

// ShowTime is a time as parseTimeout reads it: 10m rather than Go's 10m0s.
func ShowTime(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// limitGrants asks where the project's profile allows more than its user's own word, or the default, does: a limit that
// a stranger can lift is none.
func (p *Profile) limitGrants(grant func(key, kind, format string, args ...any) *Grant) {
	if p.own == nil {
		return
	}
	l, own := p.Limits, p.own.limits
	for _, one := range []struct {
		key, what        string
		now, own         float64
		nowText, ownText string
	}{
		{"limits.memory", "memory", float64(l.MemoryBytes), float64(own.MemoryBytes), ShowSize(l.MemoryBytes), ShowSize(own.MemoryBytes)},
		{"limits.cpus", "processors", l.CPUs, own.CPUs, fmt.Sprint(l.CPUs), fmt.Sprint(own.CPUs)},
		{"limits.pids", "processes", float64(l.PIDs), float64(own.PIDs), fmt.Sprint(l.PIDs), fmt.Sprint(own.PIDs)},
		{"limits.timeout", "time", float64(l.Timeout), float64(own.Timeout), ShowTime(l.Timeout), ShowTime(own.Timeout)},
	} {
		switch {
		case one.own == 0:
		case one.now == 0:
			grant(one.key, GrantLimit, "lift the limit on %s, which is %s", one.what, one.ownText)
		case one.now > one.own:
			grant(one.key, GrantLimit, "raise the limit on %s from %s to %s", one.what, one.ownText, one.nowText)
		}
	}
}

// CheckLimit says whether a limit (memory, cpus, pids, timeout) can be what a flag's text says.
func CheckLimit(name, text string) error {
	return defaults().Set("limits."+name, text, Origin{Kind: FromFlag, Flag: name})
}
