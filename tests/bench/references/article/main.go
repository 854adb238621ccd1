// The gateway of the article that Aileron grew from, written anew as a reference: each frame becomes one POST to PHP by
// net/http, its answer goes back as a frame, each frame is logged, and PHP pushes by POST /send.
//
//	article -listen 127.0.0.1:0 -php http://127.0.0.1/websocket.php
//
// Nothing here is better or worse than there. The frame goes into the form as it is, a client of net/http is made for each
// frame, and all of them share the default transport, which keeps two idle connections to a host. Only the addresses can
// be chosen, and a push that meets an answer waits for it, where the article's gateway would panic.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

var (
	php     string
	clients sync.Map // the client's address → *client
)

type client struct {
	*websocket.Conn
	writing sync.Mutex // gorilla allows one writer at a time
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "where to listen; port 0 takes a free one")
	flag.StringVar(&php, "php", "http://localhost/websocket.php", "the page that answers frames")
	flag.Parse()

	http.HandleFunc("/ws", serveClient)
	http.HandleFunc("/send", push)
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}

func serveClient(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	socket, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		log.Printf("not upgraded: %v", err)
		return
	}
	defer socket.Close()

	id := socket.RemoteAddr().String()
	c := &client{Conn: socket}
	clients.Store(id, c)
	defer clients.Delete(id)
	log.Printf("client %s has come", id)
	err = c.answerFrames(id)
	log.Printf("client %s has gone: %v", id, err)
}

func (c *client) answerFrames(id string) error {
	for {
		kind, frame, err := c.ReadMessage()
		if err != nil {
			return err
		}
		log.Printf("message of client %s: %s", id, frame)
		answer, err := ask(string(frame), id)
		if err != nil {
			log.Printf("no answer of PHP: %v", err)
			continue
		}
		if err := c.write(kind, answer); err != nil {
			return err
		}
	}
}

// ask is the one POST that a frame becomes.
func ask(message, id string) ([]byte, error) {
	form := fmt.Sprintf("type=server&message=%s&client_id=%s", message, id)
	poster := &http.Client{Timeout: 10 * time.Second}
	response, err := poster.Post(php, "application/x-www-form-urlencoded", strings.NewReader(form))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

func (c *client) write(kind int, payload []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.WriteMessage(kind, payload)
}

func push(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "Bad Request", http.StatusBadRequest)
		return
	}
	found, ok := clients.Load(r.Form.Get("client_id"))
	if !ok {
		http.Error(w, "no such client", http.StatusNotFound)
		return
	}
	if err := found.(*client).write(websocket.TextMessage, []byte(r.Form.Get("message"))); err != nil {
		http.Error(w, "not sent", http.StatusInternalServerError)
		return
	}
	io.WriteString(w, "sent")
}
