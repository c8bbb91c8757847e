package integration

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// Request is what a program inside asks for: the first thing on a connection, answered by an Answer.
type Request struct {
	Kind  string   `json:"kind"`  // Open, Notify or Credential
	Words []string `json:"words"` // an address; a title and a text; the host, and a user name if there is one
}

// The kinds of Request.
const (
	Open       = "open"
	Notify     = "notify"
	Credential = "credential"
)

// Answer says how that went.
type Answer struct {
	Refused string   `json:"refused,omitempty"` // why it was not done; "" is that it was
	Words   []string `json:"words,omitempty"`   // of a Credential: user name and password
}

// maxMessage bounds a Request and an Answer.
const maxMessage = 64 << 10

// Send writes a message: its length in four bytes, and JSON.
func Send(w io.Writer, message any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(body) > maxMessage {
		return fmt.Errorf("%d bytes are more than the %d that a message may have", len(body), maxMessage)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

// Receive reads what Send has written.
func Receive(r io.Reader, message any) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxMessage {
		return fmt.Errorf("a message of %d bytes", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	return json.Unmarshal(body, message)
}
