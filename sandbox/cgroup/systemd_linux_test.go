package cgroup

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"cove/sandbox/spec"

	"github.com/godbus/dbus/v5"
)

// manager is a systemd as far as starting a scope goes: one connection at its own socket.
type manager struct {
	asked  chan []any // the bodies of the calls
	result string     // of the job; "" says nothing of it
	refuse string     // an error's name instead of a job
	reject bool       // whoever comes
}

// listen makes the socket and serves it until the test ends.
func (m *manager) listen(t *testing.T) string {
	t.Helper()
	m.asked = make(chan []any, 8)
	name := filepath.Join(t.TempDir(), "private")
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- m.serve(l) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-done; err != nil {
			t.Error("the test's systemd:", err)
		}
	})
	return name
}

func (m *manager) serve(l net.Listener) error {
	c, err := l.Accept()
	if err != nil {
		return nil // the test is over
	}
	defer c.Close()
	in := bufio.NewReader(c)
	if err := m.auth(c, in); err != nil {
		return err
	}
	for {
		call, err := dbus.DecodeMessage(in)
		if err != nil {
			return nil // the client is gone
		}
		m.asked <- call.Body
		serial := call.Serial()
		reply := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(serial), dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(dbus.ObjectPath("/")))},
			Body: []any{dbus.ObjectPath("/org/freedesktop/systemd1/job/7")}}
		if m.refuse != "" {
			reply = &dbus.Message{Type: dbus.TypeError, Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldReplySerial: dbus.MakeVariant(serial), dbus.FieldErrorName: dbus.MakeVariant(m.refuse),
				dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(""))}, Body: []any{"no such property"}}
		}
		// As in life, other jobs end meanwhile, and ours may before the reply is read.
		out := []*dbus.Message{removed("/org/freedesktop/systemd1/job/6", "other.service", "failed"), reply}
		if m.result != "" {
			out = append(out, removed("/org/freedesktop/systemd1/job/7", "cove-x.scope", m.result))
		}
		for i, message := range out {
			if err := send(c, message, uint32(i+1)); err != nil {
				return err
			}
		}
	}
}

// auth is the server's side of the EXTERNAL mechanism ("Authentication Protocol" of the D-Bus specification).
func (m *manager) auth(c net.Conn, in *bufio.Reader) error {
	if nul, err := in.ReadByte(); err != nil || nul != 0 {
		return errors.New("no NUL before the authentication")
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		switch words := strings.Fields(line); {
		case len(words) == 3 && words[0] == "AUTH" && words[1] == "EXTERNAL":
			if uid, err := hex.DecodeString(words[2]); err != nil || string(uid) != strconv.Itoa(os.Geteuid()) {
				return errors.New("authenticates with " + line)
			}
			answer := "OK 0123456789abcdef0123456789abcdef\r\n"
			if m.reject {
				answer = "REJECTED EXTERNAL\r\n"
			}
			_, err = c.Write([]byte(answer))
		case words[0] == "BEGIN":
			return nil
		default:
			return errors.New("unexpected " + line)
		}
		if err != nil {
			return err
		}
	}
}

func removed(job dbus.ObjectPath, unit, result string) *dbus.Message {
	return &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/systemd1")), dbus.FieldInterface: dbus.MakeVariant(managerName),
		dbus.FieldMember: dbus.MakeVariant("JobRemoved"), dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(uint32(0), job, "", ""))},
		Body: []any{uint32(7), job, unit, result}}
}

func send(c net.Conn, m *dbus.Message, serial uint32) error {
	var b bytes.Buffer
	if err := m.EncodeTo(&b, binary.LittleEndian); err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(b.Bytes()[8:], serial) // which the library gives to its own messages alone
	_, err := c.Write(b.Bytes())
	return err
}

func TestScope(t *testing.T) {
	s := &spec.Spec{Name: "web", ID: "x", Limits: spec.Limits{MemoryBytes: 1 << 30, CPUs: 1.5, PIDs: 512}}
	for name, c := range map[string]struct {
		manager manager
		wait    time.Duration
		err     string
	}{
		"done":      {manager: manager{result: "done"}},
		"failed":    {manager: manager{result: "failed"}, err: `its job ended as "failed"`},
		"refused":   {manager: manager{refuse: "org.freedesktop.DBus.Error.PropertyReadOnly"}, err: "no such property (org.freedesktop.DBus.Error.PropertyReadOnly)"},
		"rejected":  {manager: manager{reject: true}, err: fmt.Sprintf("it does not take us for uid %d: %q", os.Geteuid(), "REJECTED EXTERNAL")},
		"no answer": {wait: 200 * time.Millisecond, err: "no answer: context deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			wait := c.wait
			if wait == 0 {
				wait = 30 * time.Second
			}
			ctx, cancel := context.WithTimeout(context.Background(), wait)
			defer cancel()
			err := startScope(ctx, c.manager.listen(t), "cove-x.scope", properties(s, 4711))
			if c.err == "" && err != nil || c.err != "" && (err == nil || err.Error() != c.err) {
				t.Fatalf("error is %v, want %q", err, c.err)
			}
			if c.manager.reject {
				return
			}
			want := []any{"cove-x.scope", "fail", [][]any{
				{"Description", dbus.MakeVariant("cove sandbox web")},
				{"PIDs", dbus.MakeVariant([]uint32{4711})},
				{"DelegateControllers", dbus.MakeVariant([]string{"memory", "cpu", "pids"})},
				{"CollectMode", dbus.MakeVariant("inactive-or-failed")},
				{"MemoryMax", dbus.MakeVariant(uint64(1 << 30))},
				{"MemorySwapMax", dbus.MakeVariant(uint64(0))},
				{"CPUQuotaPerSecUSec", dbus.MakeVariant(uint64(1500000))},
				{"TasksMax", dbus.MakeVariant(uint64(512))},
			}, [][]any{}}
			if asked := <-c.manager.asked; !reflect.DeepEqual(asked, want) {
				t.Errorf("asked for\n%v, want\n%v", asked, want)
			}
		})
	}
}

// A systemd that ends in the middle is an error at once, not a wait.
func TestScopeLost(t *testing.T) {
	name := filepath.Join(t.TempDir(), "private")
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		in := bufio.NewReader(c)
		_ = (&manager{}).auth(c, in)
		_, _ = dbus.DecodeMessage(in)
		c.Close()
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := startScope(ctx, name, "cove-x.scope", nil); err == nil || ctx.Err() != nil {
		t.Errorf("error is %v, the wait %v", err, ctx.Err())
	}
	if err := startScope(ctx, name+"-not", "cove-x.scope", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a socket that is not there: %v", err)
	}
}

// What comes from the other end may be cut and changed anywhere: it is an error or another message, never a panic, and
// never more text than there was.
func FuzzReceive(f *testing.F) {
	for _, m := range []*dbus.Message{removed("/org/freedesktop/systemd1/job/7", "cove-x.scope", "done")} {
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			var b bytes.Buffer
			if err := m.EncodeTo(&b, order); err != nil {
				f.Fatal(err)
			}
			got, err := receive(bytes.NewReader(b.Bytes()))
			if err != nil || got.kind != typeSignal || got.member != "JobRemoved" || got.interfaceName != managerName || got.signature != "uoss" {
				f.Fatalf("%+v, %v", got, err)
			}
			if n, job, unit, result := got.body.uint32(), got.body.string(), got.body.string(), got.body.string(); n != 7 ||
				job != "/org/freedesktop/systemd1/job/7" || unit != "cove-x.scope" || result != "done" || got.body.err != nil {
				f.Fatal(n, job, unit, result, got.body.err)
			}
			f.Add(b.Bytes())
		}
	}
	f.Add(call(1, "StartTransientUnit", "x", "fail", properties(&spec.Spec{Limits: spec.Limits{MemoryBytes: 1, CPUs: 1, PIDs: 1}}, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := receive(bytes.NewReader(b))
		if err != nil {
			return
		}
		if len(m.member)+len(m.signature)+len(m.errName)+len(m.interfaceName) > len(b) {
			t.Errorf("%d bytes became %+v", len(b), m)
		}
		m.body.uint32()
		for range 3 {
			if s := m.body.string(); len(s) > len(b) {
				t.Errorf("%d bytes hold a string of %d", len(b), len(s))
			}
		}
	})
}
