package spec

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// Path is a file name as the kernel has it: any bytes but NUL. JSON has no place for bytes that
// are no UTF-8, so such a path travels as {"bytes": base64}; every other one as a plain string.
type Path string

type rawPath struct {
	Bytes []byte `json:"bytes"`
}

// MarshalJSON implements json.Marshaler.
func (p Path) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(p)) && !strings.ContainsRune(string(p), utf8.RuneError) {
		return json.Marshal(string(p))
	}
	return json.Marshal(rawPath{[]byte(p)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Path) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var r rawPath
		if err := json.Unmarshal(b, &r); err != nil {
			return err
		}
		*p = Path(r.Bytes)
		return nil
	}
	return json.Unmarshal(b, (*string)(p))
}

// Arg is an argument or environment entry, which like a Path may hold any byte but NUL.
type Arg = Path
