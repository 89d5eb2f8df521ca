// A server of WHIP and WHEP in Go, with Pion: `whip [lite]`. It passes on what one publisher sends, at /whip, to all at
// /whep, and knows nothing of what that is. Whoever says "Bearer wrong" is refused.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc"
)

var (
	api       *webrtc.API
	guard     sync.Mutex
	publisher *webrtc.PeerConnection
	tracks    = map[string]*webrtc.TrackLocalStaticRTP{}
	videos    []uint32
	peers     = map[string]*webrtc.PeerConnection{}
)

func tell(news map[string]interface{}) {
	line, _ := json.Marshal(news)
	fmt.Println(string(line))
}

func must(err error) {
	if err != nil {
		tell(map[string]interface{}{"thrown": err.Error()})
		os.Exit(1)
	}
}

func main() {
	var settings webrtc.SettingEngine
	if len(os.Args) > 1 && os.Args[1] == "lite" {
		settings.SetLite(true)
		settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	}
	engine := &webrtc.MediaEngine{}
	must(engine.RegisterDefaultCodecs())
	api = webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(settings))
	http.HandleFunc("/moved", func(out http.ResponseWriter, in *http.Request) {
		http.Redirect(out, in, "/whip", http.StatusTemporaryRedirect)
	})
	http.HandleFunc("/whip", func(out http.ResponseWriter, in *http.Request) { open(out, in, publish) })
	http.HandleFunc("/whep", func(out http.ResponseWriter, in *http.Request) { open(out, in, watch) })
	http.HandleFunc("/resource/", change)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	tell(map[string]interface{}{"port": listener.Addr().(*net.TCPAddr).Port})
	must(http.Serve(listener, nil))
}

func open(out http.ResponseWriter, in *http.Request, prepare func(*webrtc.PeerConnection) bool) {
	body, _ := io.ReadAll(io.LimitReader(in.Body, 1<<16))
	if in.Header.Get("Authorization") == "Bearer wrong" {
		http.Error(out, "that token is wrong", http.StatusUnauthorized)
		return
	}
	if in.Method != http.MethodPost {
		http.Error(out, "POST an offer", http.StatusMethodNotAllowed)
		return
	}
	peer, err := api.NewPeerConnection(webrtc.Configuration{})
	must(err)
	guard.Lock()
	there := prepare(peer)
	guard.Unlock()
	if !there {
		peer.Close()
		http.Error(out, "there is no stream yet", http.StatusNotFound)
		return
	}
	if err := peer.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: string(body)}); err != nil {
		peer.Close()
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	gathered := webrtc.GatheringCompletePromise(peer)
	answer, err := peer.CreateAnswer(nil)
	must(err)
	must(peer.SetLocalDescription(answer))
	<-gathered
	guard.Lock()
	name := fmt.Sprintf("/resource/%d", len(peers))
	peers[name] = peer
	guard.Unlock()
	out.Header().Set("Content-Type", "application/sdp")
	out.Header().Set("Location", name)
	out.Header().Set("ETag", `"one"`)
	out.WriteHeader(http.StatusCreated)
	io.WriteString(out, peer.LocalDescription().SDP)
}

func change(out http.ResponseWriter, in *http.Request) {
	guard.Lock()
	peer := peers[in.URL.Path]
	guard.Unlock()
	if peer == nil {
		http.Error(out, "no such resource", http.StatusNotFound)
		return
	}
	switch in.Method {
	case http.MethodDelete:
		peer.Close()
		tell(map[string]interface{}{"deleted": in.URL.Path})
	case http.MethodPatch:
		body, _ := io.ReadAll(io.LimitReader(in.Body, 1<<16))
		for _, line := range strings.Split(string(body), "\r\n") {
			if strings.HasPrefix(line, "a=candidate:") {
				must(peer.AddICECandidate(webrtc.ICECandidateInit{Candidate: line[2:]}))
			}
		}
		out.WriteHeader(http.StatusNoContent)
	}
}

func publish(peer *webrtc.PeerConnection) bool {
	publisher, tracks, videos = peer, map[string]*webrtc.TrackLocalStaticRTP{}, nil
	peer.OnTrack(func(remote *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		kind := remote.Kind().String()
		local, err := webrtc.NewTrackLocalStaticRTP(remote.Codec().RTPCodecCapability, kind, kind)
		must(err)
		guard.Lock()
		tracks[kind] = local
		if kind == "video" {
			videos = append(videos, uint32(remote.SSRC()))
		}
		guard.Unlock()
		tell(map[string]interface{}{kind: remote.Codec().MimeType})
		for {
			packet, _, err := remote.ReadRTP()
			if err != nil {
				return
			}
			packet.Timestamp += 12345 // as servers do
			local.WriteRTP(packet)
		}
	})
	return true
}

func watch(peer *webrtc.PeerConnection) bool {
	for _, local := range tracks {
		sender, err := peer.AddTrack(local)
		must(err)
		go func() {
			for {
				packets, _, err := sender.ReadRTCP()
				if err != nil {
					return
				}
				for _, packet := range packets {
					if _, lost := packet.(*rtcp.PictureLossIndication); lost {
						refresh()
					}
				}
			}
		}()
	}
	return tracks["video"] != nil
}

func refresh() {
	guard.Lock()
	defer guard.Unlock()
	for _, source := range videos {
		publisher.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: source}})
	}
}
