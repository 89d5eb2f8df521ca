// Pion, WebRTC in Go: `pion URL ROLE CODEC CLIP [extras] [lite]`.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/pion/webrtc"
	"github.com/pion/webrtc/pkg/media"
	"github.com/pion/webrtc/pkg/media/ivfreader"
	"golang.org/x/net/websocket"
)

type message struct {
	Type          string                     `json:"type"`
	SessionID     string                     `json:"sessionId,omitempty"`
	SourceSession string                     `json:"sourceSession,omitempty"`
	TargetSession string                     `json:"targetSession,omitempty"`
	Timestamp     int64                      `json:"timestamp"`
	SDP           *webrtc.SessionDescription `json:"sdp,omitempty"`
	Candidate     *webrtc.ICECandidateInit   `json:"candidate,omitempty"`
}

type point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
	Z float64 `json:"z"`
}

type faces struct {
	Type      string    `json:"type"`
	Timestamp int64     `json:"timestamp"`
	Landmarks [][]point `json:"landmarks"`
}

var (
	role, codec, clip = os.Args[2], os.Args[3], os.Args[4]
	options           = map[string]bool{}
	telling           sync.Mutex
	early             []webrtc.ICECandidateInit
	peer              *webrtc.PeerConnection
	socket            *websocket.Conn
)

func tell(news map[string]interface{}) {
	telling.Lock()
	defer telling.Unlock()
	line, _ := json.Marshal(news)
	fmt.Println(string(line))
}

func must(err error) {
	if err != nil {
		tell(map[string]interface{}{"thrown": err.Error()})
		os.Exit(1)
	}
}

func send(told message) {
	told.Timestamp = time.Now().UnixMilli()
	must(websocket.JSON.Send(socket, told))
}

func main() {
	for _, option := range os.Args[5:] {
		options[option] = true
	}
	var err error
	socket, err = websocket.Dial(os.Args[1], "", "http://127.0.0.1/")
	must(err)
	for {
		var heard message
		if websocket.JSON.Receive(socket, &heard) != nil {
			return
		}
		handle(heard)
	}
}

func handle(heard message) {
	switch heard.Type {
	case "connected":
		tell(map[string]interface{}{"session": heard.SessionID})
		if role == "receive" {
			go seek()
		}
	case "request_offer", "webrtc_seek_broadcaster":
		if role == "broadcast" && peer == nil {
			open(heard.SourceSession)
			offer, err := peer.CreateOffer(nil)
			must(err)
			tell(map[string]interface{}{"offer": offer.SDP})
			must(peer.SetLocalDescription(offer))
			send(message{Type: "webrtc_offer", TargetSession: heard.SourceSession, SDP: &offer})
		}
	case "webrtc_offer":
		if role == "receive" {
			tell(map[string]interface{}{"offer": heard.SDP.SDP})
			open(heard.SourceSession)
			must(peer.SetRemoteDescription(*heard.SDP))
			answer, err := peer.CreateAnswer(nil)
			must(err)
			tell(map[string]interface{}{"answer": answer.SDP})
			must(peer.SetLocalDescription(answer))
			send(message{Type: "webrtc_answer", TargetSession: heard.SourceSession, SDP: &answer})
			settle()
		}
	case "webrtc_answer":
		if peer.RemoteDescription() != nil { // a slow peer gets it once more, and Pion bears it once only
			return
		}
		tell(map[string]interface{}{"answer": heard.SDP.SDP})
		must(peer.SetRemoteDescription(*heard.SDP))
		settle()
	case "webrtc_ice":
		if heard.Candidate == nil || heard.Candidate.Candidate == "" {
			return
		}
		early = append(early, *heard.Candidate)
		if peer != nil && peer.RemoteDescription() != nil {
			settle()
		}
	}
}

// seek asks again as long as the machine is too busy to answer in 5 s.
func seek() {
	for peer == nil || peer.ConnectionState() != webrtc.PeerConnectionStateConnected {
		send(message{Type: "request_offer"})
		time.Sleep(6 * time.Second)
	}
}

func settle() {
	for _, candidate := range early {
		must(peer.AddICECandidate(candidate))
	}
	early = nil
}

func open(session string) {
	var settings webrtc.SettingEngine
	settings.SetLite(options["lite"])
	if options["lite"] {
		settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	}
	engine := &webrtc.MediaEngine{}
	must(engine.RegisterDefaultCodecs())
	var err error
	peer, err = webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(settings)).
		NewPeerConnection(webrtc.Configuration{})
	must(err)
	peer.OnICECandidate(func(candidate *webrtc.ICECandidate) {
		if candidate != nil {
			told := candidate.ToJSON()
			send(message{Type: "webrtc_ice", TargetSession: session, Candidate: &told})
		}
	})
	peer.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		tell(map[string]interface{}{"state": state.String()})
	})
	if role == "broadcast" {
		broadcast()
		return
	}
	peer.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for frames := 0; ; {
			packet, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			if packet.Marker {
				frames++
				tell(map[string]interface{}{"frames": frames})
			}
		}
	})
	peer.OnDataChannel(func(channel *webrtc.DataChannel) {
		count := 0
		channel.OnMessage(func(heard webrtc.DataChannelMessage) {
			var found faces
			if json.Unmarshal(heard.Data, &found) == nil && len(found.Landmarks) > 0 {
				count++
				tell(map[string]interface{}{"faces": count, "landmarks": found.Landmarks[0]})
			}
		})
	})
}

func broadcast() {
	if options["extras"] {
		add(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "audio")
	}
	kind := webrtc.MimeTypeVP8
	if codec == "h264" {
		kind = webrtc.MimeTypeH264
	}
	go play(add(webrtc.RTPCodecCapability{MimeType: kind}, "video"))
	if options["extras"] {
		add(webrtc.RTPCodecCapability{MimeType: kind}, "second")
	}
	channel, err := peer.CreateDataChannel("faceData", nil)
	must(err)
	channel.OnOpen(func() {
		face := make([]point, 478)
		for i := range face {
			face[i] = point{float64(i) / 1000, 0.5, float64(-i) / 1000}
		}
		for range time.Tick(time.Second / 12) {
			text, _ := json.Marshal(faces{"face_landmarks", time.Now().UnixMilli(), [][]point{face}})
			if channel.SendText(string(text)) != nil {
				return
			}
		}
	})
}

func add(codec webrtc.RTPCodecCapability, name string) *webrtc.TrackLocalStaticSample {
	track, err := webrtc.NewTrackLocalStaticSample(codec, name, name)
	must(err)
	sender, err := peer.AddTrack(track)
	must(err)
	go func() {
		for buffer := make([]byte, 1500); ; {
			if _, _, err := sender.Read(buffer); err != nil {
				return
			}
		}
	}()
	return track
}

// play sends the clip again and again, 30 frames a second.
func play(track *webrtc.TrackLocalStaticSample) {
	ticks := time.Tick(time.Second / 30)
	for {
		file, err := os.Open(clip)
		must(err)
		reader, _, err := ivfreader.NewWith(file)
		must(err)
		for {
			picture, _, err := reader.ParseNextFrame()
			if err != nil {
				break
			}
			<-ticks
			if track.WriteSample(media.Sample{Data: picture, Duration: time.Second / 30}) != nil {
				return
			}
		}
		file.Close()
	}
}
