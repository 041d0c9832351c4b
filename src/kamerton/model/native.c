/* Element-wise parts of a decoder layer, each in one pass over memory. Compiled and called by native.py.

   All arrays are float32 and row-major. Rows are computed by one thread each and sums run in one order, so results do
   not depend on the number of threads. */

#include <math.h>
#include <stdint.h>
#include <string.h>

/* exp(x): 2^n times a polynomial of degree 6 on [-ln(2)/2, ln(2)/2] (Cephes, expf); within 2 units in the last place. */
static inline float exp_(float x) {
    x = x > 88.3f ? 88.3f : (x < -87.3f ? -87.3f : x);
    float n = floorf(x * 1.44269504088896341f + 0.5f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + exp_(-x)); }

/* out = x / sqrt(mean(x^2) + eps) * weight for rows of n; scale keeps 1 / sqrt(...) of each row. */
void rms_norm(const float *x, const float *weight, float eps, float *out, float *scale, int64_t rows, int64_t n) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < rows; t++) {
        const float *in = x + t * n;
        float *to = out + t * n, sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += in[i] * in[i];
        float factor = 1.0f / sqrtf(sum / (float)n + eps);
        scale[t] = factor;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) to[i] = in[i] * factor * weight[i];
    }
}

/* Gradient of x: scale * (g w - normal * mean(g w normal)), with normal = x * scale. */
void rms_norm_back(const float *grad, const float *x, const float *weight, const float *scale, float *of_x,
                   int64_t rows, int64_t n) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < rows; t++) {
        const float *g = grad + t * n, *in = x + t * n;
        float *to = of_x + t * n, factor = scale[t], sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += g[i] * weight[i] * in[i];
        float share = sum * factor * factor * factor / (float)n;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) to[i] = g[i] * weight[i] * factor - in[i] * share;
    }
}

/* out = silu(gate) * up; rows of gate and up are `stride` apart. */
void silu_mul(const float *gate, const float *up, int64_t stride, float *out, int64_t rows, int64_t n) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < rows; t++) {
        const float *g = gate + t * stride, *u = up + t * stride;
        float *to = out + t * n;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) to[i] = g[i] * sigmoid(g[i]) * u[i];
    }
}

/* For hidden = silu(gate) * up and its gradient: hidden again, and the gradients of gate and up in one matrix whose rows
   are [of_gate, of_up]. */
void silu_mul_back(const float *gate, const float *up, int64_t stride, const float *of_hidden, float *both,
                   int64_t rows, int64_t n) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < rows; t++) {
        const float *g = gate + t * stride, *u = up + t * stride, *grad = of_hidden + t * n;
        float *of_gate = both + 2 * t * n, *of_up = of_gate + n;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float s = sigmoid(g[i]), active = g[i] * s;
            of_gate[i] = grad[i] * u[i] * (s + active * (1.0f - s));
            of_up[i] = grad[i] * active;
        }
    }
}

/* Rotate `heads` heads of d numbers in each of `rows` tokens: (x1, x2) * cos + (-x2, x1) * sin, or its transpose. Tokens
   are `token` and heads `head` numbers apart in x; the output is (rows, heads, d). */
void rotate(const float *x, int64_t token, int64_t head, const float *cosine, const float *sine, float *out,
            int64_t rows, int64_t heads, int64_t d, int64_t transposed) {
    int64_t half = d / 2;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < rows; t++) {
        const float *c = cosine + t * d, *s = sine + t * d;
        for (int64_t h = 0; h < heads; h++) {
            const float *first = x + t * token + h * head, *second = first + half;
            float *to = out + (t * heads + h) * d;
            if (transposed) {
#pragma omp simd
                for (int64_t i = 0; i < half; i++) {
                    to[i] = first[i] * c[i] + second[i] * s[half + i];
                    to[half + i] = second[i] * c[half + i] - first[i] * s[i];
                }
            } else {
#pragma omp simd
                for (int64_t i = 0; i < half; i++) {
                    to[i] = first[i] * c[i] - second[i] * s[i];
                    to[half + i] = second[i] * c[half + i] + first[i] * s[half + i];
                }
            }
        }
    }
}

#define BLOCK 2048 /* this many products of 8191 and 127 fit into 32 bits */

/* Round x (rows, n) to 14 bits, with a step for each row. */
static void round_rows(const float *x, int16_t *rounded, float *step, int64_t rows, int64_t n) {
    for (int64_t t = 0; t < rows; t++) {
        float most = 0.0f;
#pragma omp simd reduction(max : most)
        for (int64_t i = 0; i < n; i++) most = fabsf(x[t * n + i]) > most ? fabsf(x[t * n + i]) : most;
        step[t] = most / 8191.0f;
        float inverse = most > 0.0f ? 8191.0f / most : 0.0f;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) rounded[t * n + i] = (int16_t)rintf(x[t * n + i] * inverse);
    }
}

static inline float dot(const int16_t *x, const int8_t *weight, int64_t n) {
    int64_t total = 0;
    for (int64_t start = 0; start < n; start += BLOCK) {
        int64_t end = start + BLOCK < n ? start + BLOCK : n;
        int32_t sum = 0;
        for (int64_t i = start; i < end; i++) sum += x[i] * weight[i];
        total += sum;
    }
    return (float)total;
}

/* out = x W' for W = scale * weight with 8 bits a weight (outs, n); `rounded` and `step` are room for `round_rows`. */
void int8_product(const float *x, const int8_t *weight, const float *scale, int16_t *rounded, float *step, float *out,
                  int64_t rows, int64_t n, int64_t outs) {
    round_rows(x, rounded, step, rows, n);
#pragma omp parallel for schedule(static)
    for (int64_t o = 0; o < outs; o++)
        for (int64_t t = 0; t < rows; t++)
            out[t * outs + o] = dot(rounded + t * n, weight + o * n, n) * scale[o] * step[t];
}
