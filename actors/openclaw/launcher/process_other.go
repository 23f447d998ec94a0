//go:build !linux

package launcher

import (
	"errors"
	"os"
	"syscall"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

func supported() error { return errUnsupported }

var (
	errGone        = errors.New("process is gone")
	errUnsupported = &messages.Error{Code: messages.CodeNotSupported, Message: "managed gateways need Linux: processes are held by pidfd and found in /proc",
		NextStep: next.RunGatewaysYourself}
)

// process cannot exist on this system: New answers errUnsupported.
type process struct {
	pid   int
	start uint64
	done  chan struct{}
	exit  Exit
}

func openProcess(int) (*process, error)                            { return nil, errUnsupported }
func spawn([]string, []string, string, *os.File) (*process, error) { return nil, errUnsupported }
func (p *process) ended() bool                                     { return true }
func (p *process) signal(syscall.Signal) error                     { return errUnsupported }
func (p *process) wait() bool                                      { return false }
func (p *process) outcome() Exit                                   { return Exit{PID: p.pid, Code: -1} }
func (p *process) finish(Exit)                                     {}
func (p *process) close()                                          {}
