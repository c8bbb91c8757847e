package outside

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"cove/sandbox/integration"
	"cove/sandbox/spec"
)

// soundServer keeps the packets that come, and answers what makes a stream: its channel is 5, its index 50.
type soundServer struct {
	mu      sync.Mutex
	packets [][]byte
	sound   int // bytes of frames that were no packets
}

func (s *soundServer) serve(conn *net.UnixConn) {
	for {
		d, packet, err := next(conn, false)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.packets = append(s.packets, packet)
		s.mu.Unlock()
		if packet == nil {
			n, _ := io.CopyN(io.Discard, conn, int64(d.size()))
			s.mu.Lock()
			s.sound += int(n)
			s.mu.Unlock()
			continue
		}
		tag, _ := u32At(packet, 1)
		_, _ = conn.Write(frameOf(onControl, 0, appendU32(nil, cmdReply, tag, 5, 50)))
	}
}

func frameOf(channel, flags uint32, body []byte) []byte {
	var d descriptor
	binary.BigEndian.PutUint32(d[0:], uint32(len(body)))
	binary.BigEndian.PutUint32(d[4:], channel)
	binary.BigEndian.PutUint32(d[16:], flags)
	return append(d[:], body...)
}

// newAudio is the proxy before that server.
func newAudio(t testing.TB, s *soundServer, record bool) (net.Conn, *opened) {
	t.Helper()
	dir := shortDir(t)
	unixServer(t, dir+"/p", s.serve)
	o, err := Integrations{}.Open(t.Context(), &spec.Spec{Integrations: &spec.Integrations{Audio: &spec.Audio{Socket: spec.Path(dir + "/p"), Record: record}}}, func(integration.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", dir+"/i")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	if err := o.Serve(spec.AudioSocket, f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	conn, err := net.Dial("unix", dir+"/i")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn, o.(*opened)
}

// say sends a command with its values, and reports whether it was answered by the server.
func say(t *testing.T, conn net.Conn, values ...uint32) bool {
	t.Helper()
	if _, err := conn.Write(frameOf(onControl, 0, appendU32(nil, values...))); err != nil {
		t.Fatal(err)
	}
	_, packet, err := next(conn, false)
	if err != nil {
		t.Fatal(err)
	}
	command, _ := u32At(packet, 0)
	if tag, _ := u32At(packet, 1); tag != values[1] {
		t.Errorf("%d: the answer has the tag %d", values, tag)
	}
	return command == cmdReply
}

// TestAudio: a client plays, and touches nothing but its own streams.
func TestAudio(t *testing.T) {
	for _, record := range []bool{false, true} {
		server := &soundServer{}
		conn, _ := newAudio(t, server, record)
		for i, test := range []struct {
			what   string
			passes bool
			values []uint32 // behind the tag
		}{
			{"auth", true, []uint32{cmdAuth, 0xc0000023}},
			{"volume of another's", false, []uint32{37, 50}},
			{"own stream", true, []uint32{cmdCreatePlayback}},
			{"volume of its own", true, []uint32{37, 50}},
			{"volume of another's", false, []uint32{37, 51}},
			{"kill another's", false, []uint32{49, 51}},
			{"record", record, []uint32{cmdCreateRecord}},
			{"volume of its own recording", record, []uint32{98, 50}},
			{"volume of another's recording", false, []uint32{98, 51}},
			{"all streams", false, []uint32{30}},
			{"all clients", false, []uint32{28}},
			{"load a module", false, []uint32{51}},
			{"unload one", false, []uint32{52, 0}},
			{"end the server", false, []uint32{7}},
			{"extension", false, []uint32{87}},
			{"volume of the sink", false, []uint32{36, 0}},
			{"shared memory", false, []uint32{103}},
			{"upload", false, []uint32{15}},
			{"unknown", false, []uint32{4711}},
			{"questions", true, []uint32{20}},
			{"end of its own", true, []uint32{cmdDeletePlayback, 5}},
			{"volume of what was its own", false, []uint32{37, 50}},
		} {
			if got := say(t, conn, slices.Concat(test.values[:1], []uint32{uint32(100 + i)}, test.values[1:])...); got != test.passes {
				t.Errorf("record %v: %s: %v", record, test.what, got)
			}
		}
		if _, err := conn.Write(frameOf(5, 0, make([]byte, 100000))); err != nil {
			t.Error(err)
		}
		if !say(t, conn, 13, 1) {
			t.Error("after sound: no answer")
		}
		server.mu.Lock()
		if version, _ := u32At(server.packets[0], 2); version != 0x23 || server.sound != 100000 {
			t.Errorf("version %#x, %d bytes of sound", version, server.sound)
		}
		server.mu.Unlock()
		// Shared memory is no client's to name.
		_, _ = conn.Write(frameOf(5, 0x80000000, make([]byte, 16)))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a frame of shared memory: %d, %v", n, err)
		}
	}
}

// TestAudioTags: a client does not make another's stream its own by what the answer to something else says, nor what plays one that records.
func TestAudioTags(t *testing.T) {
	dir := shortDir(t)
	var mu sync.Mutex
	reached := map[uint32]bool{}
	unixServer(t, dir+"/p", func(conn *net.UnixConn) {
		var tags []uint32 // of the first three, which are answered when all are there
		for {
			_, packet, err := next(conn, false)
			if err != nil {
				return
			}
			command, _ := u32At(packet, 0)
			tag, _ := u32At(packet, 1)
			mu.Lock()
			reached[command] = true
			mu.Unlock()
			answers := [][]uint32{{9, 77}, {5, 50}, {6, 60}}
			if tags = append(tags, tag); len(tags) > len(answers) {
				_, _ = conn.Write(frameOf(onControl, 0, appendU32(nil, cmdReply, tag)))
			}
			for i := 0; i < len(answers) && len(tags) == len(answers); i++ {
				_, _ = conn.Write(frameOf(onControl, 0, appendU32(nil, cmdReply, tags[i], answers[i][0], answers[i][1])))
			}
		}
	})
	s := &spec.Spec{Integrations: &spec.Integrations{Audio: &spec.Audio{Socket: spec.Path(dir + "/p"), Record: true}}}
	o, err := Integrations{}.Open(t.Context(), s, func(integration.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		o.(*opened).serveAudio(t.Context(), &client{Conn: theirs})
	}()
	_ = ours.SetDeadline(time.Now().Add(20 * time.Second))
	const tag, setBuffer = 7, 72
	for _, command := range []uint32{setBuffer, cmdCreatePlayback, cmdCreateRecord} {
		if _, err := ours.Write(frameOf(onControl, 0, appendU32(nil, command, tag))); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		_, packet, err := next(ours, false)
		if got, _ := u32At(packet, 1); err != nil || got != tag {
			t.Fatalf("the answer has the tag %d, %v", got, err)
		}
	}
	for _, test := range []struct {
		command, index uint32
		passes         bool
	}{{37, 77, false}, {98, 77, false}, {98, 50, false}, {37, 60, false}, {98, 60, true}} {
		if got := say(t, ours, test.command, tag+1, test.index); got != test.passes {
			t.Errorf("command %d on %d passes: %v", test.command, test.index, got)
		}
	}
	if say(t, ours, 13, ownTag+2) {
		t.Error("a tag of the proxy's own passes")
	}
	mu.Lock()
	if reached[37] {
		t.Error("the server was told of another's stream")
	}
	mu.Unlock()
	_ = ours.Close()
	<-ended
	if err := o.Close(); err != nil {
		t.Error(err)
	}
}

func property(name, value string) []byte {
	b := append([]byte{tagString}, name...)
	b = appendU32(append(b, 0), uint32(len(value)))
	return append(binary.BigEndian.AppendUint32(append(b, tagArbitrary), uint32(len(value))), value...)
}

// TestCleanPacket: of the properties there remain those that tell what is heard, wherever they stand.
func TestCleanPacket(t *testing.T) {
	list := func(properties ...[]byte) []byte {
		return slices.Concat([]byte{tagProperties}, slices.Concat(properties...), []byte{tagNoString})
	}
	good, bad := property("media.name", "a song"), slices.Concat(property("filter.want", "ladspa-sink"), property("media.class", "Audio/Source"), property("media.names", "x"))
	front := slices.Concat(appendU32(nil, 3, 1), []byte{tagSampleSpec, 1, 2, 3, 4, 5, 6, tagChannelMap, 2, 1, 2, tagVolumes, 1, 0, 0, 0, 0, tagTrue, tagNoString})
	format := slices.Concat([]byte{tagFormat, tagU8, 1}, list(property("format.rate", "1"), bad))
	got, err := cleanPacket(slices.Concat(front, list(bad, good, bad), format, list()))
	want := slices.Concat(front, list(good), []byte{tagFormat, tagU8, 1}, list(property("format.rate", "1")), list())
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	for _, b := range [][]byte{{tagString}, []byte("tno end"), {tagU32, 1}, {tagArbitrary, 255, 255, 255, 255}, {tagProperties}, {tagProperties, tagString, 'a', 0},
		{'?'}, {tagVolumes, 255}, {tagFormat}, slices.Concat([]byte{tagProperties, tagString, 'a', 0}, appendU32(nil, 7), []byte{tagArbitrary, 0, 0, 0, 0, tagNoString})} {
		if got, err := cleanPacket(b); err == nil {
			t.Errorf("%q: %q", b, got)
		}
	}
}

// FuzzAudio: what passes is a packet, is a command that may pass, and has no property that is not known.
func FuzzAudio(f *testing.F) {
	f.Add(appendU32(nil, cmdCreatePlayback, 1))
	f.Add(appendU32(nil, 51, 1))
	f.Add(slices.Concat(appendU32(nil, cmdCreatePlayback, 1), []byte{tagProperties}, property("filter.want", "x"), property("media.name", "y"), []byte{tagNoString}))
	f.Add(slices.Concat(appendU32(nil, cmdAuth, 1, 0xffffffff), []byte{tagArbitrary, 0, 0, 0, 1, 7}))
	f.Add([]byte{tagFormat, tagU8, 1, tagProperties, tagNoString})
	f.Fuzz(func(t *testing.T, packet []byte) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		s := &audioSession{audio: &audio{}, client: ours, refuse: func(uint32) {}, pending: map[uint32]making{}, playing: map[uint32]uint32{}, heard: map[uint32]uint32{}}
		got, err := s.judge(packet)
		if err != nil || got == nil {
			return
		}
		command, _ := u32At(got, 0)
		if !slices.Contains(audioAllowed, command) || len(got) > len(packet) {
			t.Fatalf("%q: %q", packet, got)
		}
		if command == cmdAuth {
			if version, ok := u32At(got, 2); !ok || version&^noShared != 0 {
				t.Fatalf("%q: version %#x", packet, version)
			}
		}
		again, err := cleanPacket(got)
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("%q: %q, and of that %q, %v", packet, got, again, err)
		}
	})
}
