package outside

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"cove/sandbox/integration"
	"cove/sandbox/spec"
)

// audio stands before the caller's sound server, PulseAudio or PipeWire's, which speak PulseAudio's native protocol. Whoever may say all of
// that can load modules into the server, and by some of them run a program of theirs as the caller. So packets pass that are
// about the client's own streams, and a few questions; the others are answered as the server answers what it does not allow.
type audio struct {
	socket string
	record bool
}

func openAudio(ctx context.Context, s *spec.Audio) (*audio, error) {
	a := &audio{socket: string(s.Socket), record: s.Record}
	conn, err := dialUnix(ctx, a.socket)
	if err != nil {
		return nil, &integration.MissingError{Name: "host.audio", Why: fmt.Sprintf("connect to your sound server at %q: %v", s.Socket, err),
			Do: "PipeWire (with pipewire-pulse) or PulseAudio has to run in your session: `systemctl --user start pipewire-pulse.socket` starts the former"}
	}
	return a, conn.Close()
}

// The commands of native-common.h that have a meaning here.
const (
	cmdError          = 0
	cmdReply          = 2
	cmdCreatePlayback = 3
	cmdDeletePlayback = 4
	cmdCreateRecord   = 5
	cmdDeleteRecord   = 6
	cmdAuth           = 8
	cmdPlaybackKilled = 64
	cmdRecordKilled   = 65
)

// What a client may say. Of what has an index of the server's for its first value, that must be of a stream of the client's own.
var (
	audioAllowed = []uint32{cmdCreatePlayback, cmdDeletePlayback, cmdAuth, 9, 10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 35, 41, 42, 43, 46, 60, 72, 74, 81, 82, 84, 85}
	audioOwn     = []uint32{29, 37, 49, 69}
	// And who may record, too. 68 would move a stream of one's own to another microphone, which is asked for at its creation as well.
	recordAllowed = []uint32{cmdCreateRecord, cmdDeleteRecord, 47, 57, 58, 59, 73, 75, 80, 83}
	recordOwn     = []uint32{31, 50, 98, 99}
)

const (
	errAccess = 1 // PA_ERR_ACCESS
	// maxPacket bounds a control packet, which holds names and properties, and maxFrame one of sound: the protocol's own bound.
	maxPacket = 256 << 10
	maxFrame  = 16 << 20
	// onControl is the channel of what is no stream's.
	onControl = 0xffffffff
	// noShared takes the bits for shared memory out of a version: what a client puts there the server would map.
	noShared = 0x0000ffff
)

// audioSession is one client's connection.
type audioSession struct {
	*audio
	client net.Conn
	server *net.UnixConn
	refuse func(command uint32)

	write   sync.Mutex // one frame at a time to the client
	mu      sync.Mutex
	serial  uint32
	pending map[uint32]making // what makes streams, by the tag under which the server has it
	playing map[uint32]uint32 // by channel, the server's indexes of the streams
	heard   map[uint32]uint32 // likewise of those that record
}

// making is a stream that was asked for.
type making struct {
	tag    uint32 // under which the client has asked
	record bool
}

// ownTag is where the tags begin that are the proxy's own. By it the answer to what makes a stream is known for that: a client could give
// the tag to something else too, whose answer says what it likes, and so make another's stream its own.
const ownTag = 1 << 31

// maxStreams bounds what is remembered of a client.
const maxStreams = 256

func (o *opened) serveAudio(ctx context.Context, c *client) {
	server, err := dialUnix(ctx, o.audio.socket)
	e := c.event("audio", "connect")
	e.Allowed = true
	if err != nil {
		e.Error = err.Error()
		o.tell(e)
		return
	}
	o.tell(e)
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	refused := map[uint32]bool{}
	s := &audioSession{audio: o.audio, client: c, server: server, pending: map[uint32]making{}, playing: map[uint32]uint32{}, heard: map[uint32]uint32{},
		refuse: func(command uint32) {
			if !refused[command] { // once: a client may try again and again
				refused[command] = true
				e := c.event("audio", fmt.Sprintf("command %d", command))
				if e.Reason = "never"; command == cmdCreateRecord {
					e.What, e.Reason = "record", "not-granted"
				}
				o.tell(e)
			}
		}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.fromServer()
		_ = c.Close()
	}()
	_ = s.fromClient()
	_ = server.Close()
	<-done
}

// descriptor is what stands before each frame.
type descriptor [20]byte

func (d *descriptor) size() uint32    { return binary.BigEndian.Uint32(d[0:]) }
func (d *descriptor) channel() uint32 { return binary.BigEndian.Uint32(d[4:]) }
func (d *descriptor) flags() uint32   { return binary.BigEndian.Uint32(d[16:]) }

// shared says that the frame is of shared memory, which is not used here.
func (d *descriptor) shared() bool { return d.flags()&0xffffff00 != 0 }

var errAudio = errors.New("not PulseAudio's protocol")

// next reads a descriptor, and the packet behind it if it is one. A client has its time for what it has begun.
func next(conn net.Conn, timed bool) (d descriptor, packet []byte, err error) {
	if timed {
		if err := conn.SetReadDeadline(time.Time{}); err != nil {
			return d, nil, err
		}
	}
	if _, err := io.ReadFull(conn, d[:1]); err != nil {
		return d, nil, err
	}
	if timed {
		if err := conn.SetReadDeadline(time.Now().Add(messageTime)); err != nil {
			return d, nil, err
		}
	}
	if _, err := io.ReadFull(conn, d[1:]); err != nil {
		return d, nil, err
	}
	switch {
	case d.shared() || d.size() == 0 || d.size() > maxFrame:
		return d, nil, errAudio
	case d.channel() != onControl:
		return d, nil, nil
	case d.size() > maxPacket && timed:
		return d, nil, errAudio
	}
	packet = make([]byte, d.size())
	_, err = io.ReadFull(conn, packet)
	return d, packet, err
}

func (s *audioSession) fromClient() error {
	for {
		d, packet, err := next(s.client, true)
		if err != nil {
			return err
		}
		if packet == nil {
			if _, err := s.server.Write(d[:]); err != nil {
				return err
			}
			if _, err := io.CopyN(s.server, s.client, int64(d.size())); err != nil {
				return err
			}
			continue
		}
		if packet, err = s.judge(packet); err != nil {
			return err
		}
		if packet != nil {
			binary.BigEndian.PutUint32(d[:], uint32(len(packet)))
			// PulseAudio lets in whoever shows the caller's uid, by a message of the kernel's that has to go with the packet (unix(7)):
			// it is shown without asking only where the server has asked for it in time.
			me := syscall.UnixCredentials(&syscall.Ucred{Pid: int32(os.Getpid()), Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())})
			if _, _, err := s.server.WriteMsgUnix(append(d[:], packet...), me, nil); err != nil {
				return err
			}
		}
	}
}

// judge returns a packet as it may go on, or nil when it was refused, and that answered.
func (s *audioSession) judge(packet []byte) ([]byte, error) {
	packet, err := cleanPacket(packet)
	if err != nil {
		return nil, err
	}
	command, ok := u32At(packet, 0)
	tag, tagged := u32At(packet, 1)
	if !ok || !tagged {
		return nil, errAudio
	}
	if !s.may(command, tag, packet) {
		s.refuse(command)
		body := appendU32(nil, cmdError, tag, errAccess)
		var d descriptor
		binary.BigEndian.PutUint32(d[0:], uint32(len(body)))
		binary.BigEndian.PutUint32(d[4:], onControl)
		return nil, s.toClient(append(d[:], body...), nil, 0)
	}
	if command == cmdAuth {
		version, ok := u32At(packet, 2)
		if !ok {
			return nil, errAudio
		}
		binary.BigEndian.PutUint32(packet[11:], version&noShared)
	}
	return packet, nil
}

func (s *audioSession) may(command, tag uint32, packet []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := func(list []uint32) bool {
		for _, c := range list {
			if c == command {
				return true
			}
		}
		return false
	}
	index, _ := u32At(packet, 2)
	switch {
	case in(audioOwn):
		return has(s.playing, index)
	case in(recordOwn):
		return s.record && has(s.heard, index)
	case !in(audioAllowed) && !(s.record && in(recordAllowed)):
		return false
	case tag >= ownTag: // clients count from 0
		return false
	}
	switch command {
	case cmdDeletePlayback:
		delete(s.playing, index) // which is a channel there
	case cmdDeleteRecord:
		delete(s.heard, index)
	case cmdCreatePlayback, cmdCreateRecord:
		if len(s.pending)+len(s.playing)+len(s.heard) >= maxStreams {
			return false
		}
		s.serial = (s.serial + 1) % ownTag
		s.pending[ownTag+s.serial] = making{tag, command == cmdCreateRecord}
		setTag(packet, ownTag+s.serial)
	}
	return true
}

// setTag puts another tag into a packet that begins with a command and one.
func setTag(packet []byte, tag uint32) { binary.BigEndian.PutUint32(packet[6:], tag) }

func has(streams map[uint32]uint32, index uint32) bool {
	for _, i := range streams {
		if i == index {
			return true
		}
	}
	return false
}

func (s *audioSession) fromServer() error {
	for {
		d, packet, err := next(s.server, false)
		if err != nil {
			return err
		}
		s.note(packet)
		if packet != nil {
			err = s.toClient(append(d[:], packet...), nil, 0)
		} else {
			err = s.toClient(d[:], s.server, int64(d.size()))
		}
		if err != nil {
			return err
		}
	}
}

// toClient writes a whole frame, part of which may still have to be read.
func (s *audioSession) toClient(frame []byte, rest io.Reader, size int64) error {
	s.write.Lock()
	defer s.write.Unlock()
	if _, err := s.client.Write(frame); err != nil || rest == nil {
		return err
	}
	_, err := io.CopyN(s.client, rest, size)
	return err
}

// note learns from the server's answers which streams are the client's own: the answer has the channel, and the index. It gets back the
// tag that the client knows.
func (s *audioSession) note(packet []byte) {
	command, ok := u32At(packet, 0)
	tag, tagged := u32At(packet, 1)
	if !ok || !tagged {
		return
	}
	channel, ok := u32At(packet, 2)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case command == cmdPlaybackKilled && ok:
		delete(s.playing, channel)
		return
	case command == cmdRecordKilled && ok:
		delete(s.heard, channel)
		return
	case command != cmdReply && command != cmdError:
		return
	}
	made, ours := s.pending[tag]
	if !ours {
		return
	}
	delete(s.pending, tag)
	setTag(packet, made.tag)
	index, ok := u32At(packet, 3)
	switch {
	case !ok || command != cmdReply:
	case made.record:
		s.heard[channel] = index
	default:
		s.playing[channel] = index
	}
}
