FROM python:3.11-slim AS wheel
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:3.11-slim
COPY requirements-server.lock /tmp/
COPY --from=wheel /dist /tmp/dist
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements-server.lock \
    && pip install --no-cache-dir --no-deps /tmp/dist/*.whl \
    && rm -r /tmp/dist /tmp/requirements-server.lock \
    && useradd --system --uid 10001 --home-dir /var/lib/microblog-rt --create-home microblog
USER microblog
WORKDIR /var/lib/microblog-rt
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["microblog-rt"]
CMD ["serve", "--bind", "0.0.0.0:8000"]
