package openclawtest

import (
	"bytes"
	"strings"

	"github.com/coder/websocket"
)

const defaultHugeFrame = 30 << 20

// garbage sends what no client should trip over: broken JSON, binary, JSON that
// is no frame, an answer nobody asked for, a frame without payload, an unknown
// event with odd values, deep nesting.
func (c *conn) garbage(r *run) {
	texts := []string{
		`{"type":"res","id":`,
		`[]`, `null`, `"text"`, `42`,
		`{"type":"res","id":"nobody-asked","ok":true,"payload":{"runId":"` + strings.Repeat("x", 32) + `","status":"ok"}}`,
		`{"type":"res","id":17,"ok":"yes"}`,
		`{"type":"res","ok":false}`,
		`{"type":"event"}`,
		`{"type":"event","event":"chat","payload":null,"seq":0}`,
		`{"type":"event","event":"agent","payload":{"runId":{"a":1},"seq":-1,"stream":7},"seq":"1"}`,
		`{"type":"event","event":"no.such\u0000event\n","payload":{"html":"<script>alert(1)</script>"},"seq":18446744073709551615}`,
		`{"type":"strange","x":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`,
	}
	for _, t := range texts {
		c.push(outFrame{raw: &rawFrame{websocket.MessageText, []byte(t)}}, len(t))
	}
	bin := []byte{0, 1, 2, 0xff, 0xfe}
	c.push(outFrame{raw: &rawFrame{websocket.MessageBinary, bin}}, len(bin))
}

// huge sends one event frame of size bytes.
func (c *conn) huge(size int) {
	if size <= 0 {
		size = defaultHugeFrame
	}
	head := []byte(`{"type":"event","event":"health","payload":{"pad":"`)
	data := append(head, bytes.Repeat([]byte{'x'}, size)...)
	data = append(data, `"}}`...)
	c.push(outFrame{raw: &rawFrame{websocket.MessageText, data}}, len(data))
}
