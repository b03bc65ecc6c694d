# make            one static binary: ./dfs          make test    all tests         make demo   see it work
# make dev, tsan  the same tests under sanitizers   make tidy    rules of style    make dist   binaries for other machines
# make model      the model of section 3 of docs/ARCHITECTURE.md, checked by spin

WARN    = -std=c11 -Wall -Wextra -Wshadow -Wconversion -Wformat=2 -Wstrict-prototypes -Wvla
HARD    = -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -Wl,-z,relro,-z,now
CFLAGS  = -O2 -g
PREFIX  = /usr/local
SOURCES = dfs.c vendor/sha256.h vendor/json.h

ifeq ($(origin CC),default)
CC := $(shell command -v musl-gcc || command -v gcc || echo cc)
endif

# A static-pie must come out without an interpreter; a compiler that can't do that links a plain static binary.
STATIC := $(shell t=$$(mktemp -d) && echo 'int main(void) { return 0; }' >$$t/t.c && \
	{ $(CC) -static-pie -fPIE $$t/t.c -o $$t/t && $$t/t && ! grep -q ld-musl $$t/t; } >/dev/null 2>&1 && \
	echo -static-pie -fPIE || echo -static; rm -rf $$t)

dfs: $(SOURCES) Makefile
	$(CC) $(WARN) $(HARD) $(CFLAGS) $(STATIC) dfs.c -o $@ -pthread

dfs-dev: $(SOURCES) Makefile
	gcc $(WARN) -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer dfs.c -o $@ -pthread

dfs-tsan: $(SOURCES) Makefile
	gcc $(WARN) -O1 -g -fsanitize=thread dfs.c -o $@ -pthread

dev: dfs-dev
	DFS=./dfs-dev ./test.sh

tsan: dfs-tsan
	DFS=./dfs-tsan ./test.sh

test: dfs
	./test.sh

demo: dfs
	./test.sh --demo

tidy: dfs
	./test.sh tidy

model:
	.ci/model $(RULE)

install: dfs
	install -D -m 755 dfs $(DESTDIR)$(PREFIX)/bin/dfs

# Stripped static binaries, for each cross compiler that is there.
dist: $(SOURCES) Makefile
	mkdir -p dist
	for pair in x86-64:$(CC) arm64:aarch64-linux-gnu-gcc armhf:arm-linux-gnueabihf-gcc; do \
		cc=$${pair#*:}; command -v $$cc >/dev/null || { echo "dist: no $$cc, skipped $${pair%%:*}"; continue; }; \
		$$cc $(WARN) $(HARD) -O2 -s -static dfs.c -o dist/dfs-$${pair%%:*} -pthread || exit 1; done
	ls -l dist

clean:
	rm -rf dfs dfs-dev dfs-tsan dist build

.PHONY: dev tsan test demo tidy model install dist clean
