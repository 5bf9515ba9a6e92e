// Built by test_cpu with the thread sanitizer: one batch, forward and backward, on one thread and on four, from its rows and
// from arguments as users give them, and one that another thread stops.
#include <cstdio>
#include <random>
#include <utility>
#include <vector>

#include "../kernels/cpu/main.cpp"

using Numbers = std::vector<double>;

static std::mt19937_64 generator(0);

static Numbers normal(size_t count) {
    std::normal_distribution<double> draw;
    Numbers v(count);
    for (double& a : v) a = draw(generator);
    return v;
}

// Whether arguments give on these threads what they give on one; all matrices but C are shared, and b is a number.
static bool from_arguments(const Rows& rows, const Numbers& grads, Threads by) {
    static Numbers once;
    const int64_t B = rows.batch, n = rows.sizes.n, n_eq = rows.sizes.n_eq, n_in = rows.sizes.n_in, m = n_eq + n_in;
    Solve call{};
    Arguments& given = call.given;
    given.rows = rows;
    Numbers u(B * n_in, 0.5);
    auto array = [&](Name name, const double* data, int64_t stride) {
        given.forms[name] = {ARRAY, stride}, given.words[name].data = data;
    };
    array(ARG_H, rows.H.data, 0), array(ARG_g, rows.g.data, n), array(ARG_A, rows.A.data, 0);
    array(ARG_C, rows.C.data, n_in * n), array(ARG_u, u.data(), n_in);
    given.forms[ARG_b] = {NUMBER, 0}, given.words[ARG_b].number = 0.25;
    Numbers kept(given.lay_out(nullptr).count), found(B * (3 * n + 2 * m + 4 + n_in * n + 4 * (m + n) + n_in));
    std::vector<int64_t> codes(B);
    double* at = found.data();
    auto take = [&](int64_t each) { return std::exchange(at, at + B * each); };
    given.kept = kept.data();
    call.x = take(n), call.rest = take(2 * (m + n) + 4), call.status = codes.data();
    Pullback back{};
    if (qplayer_solve(&call, by)) return false;
    back.given = given, back.of_x = grads.data();
    back.gradient[ARG_C] = take(n_in * n), back.gradient[ARG_u] = take(n_in);
    back.left = take(4 * m), back.right = take(4 * n);
    if (qplayer_pull_back(&back, by)) return false;
    if (once.empty()) once = found;
    return once == found;
}

int main() {
    const int64_t B = 400, n = 6, n_eq = 2, n_in = 9, m = n_eq + n_in;
    // A and H are shared by the batch, and many of the problems are infeasible.
    Numbers H(n * n), g = normal(B * n), A = normal(n_eq * n), C = normal(B * n_in * n), hi = normal(B * m), lo = hi;
    for (int64_t i = 0; i < n; i++) H[i * n + i] = 1;
    for (int64_t k = 0; k < B; k++) std::fill_n(lo.begin() + k * m + n_eq, n_in, -INFINITY);
    Numbers w(m, 1.0), grads = normal(B * (n + m + m)), first;
    const Options options{1e-9, 0, 1e-3, 1e-1, 1e-6, 1000, 1, 1};
    for (int64_t threads : {1, 4}) {
        const Rows rows{B,
                        {int(n), int(n_eq), int(n_in), 0},
                        {H.data(), 0},
                        {g.data(), n},
                        {A.data(), 0},
                        {C.data(), n_in * n},
                        {lo.data(), m},
                        {hi.data(), m},
                        {w.data(), 0},
                        {nullptr, 0},
                        options};
        Numbers x(B * n), z(B * m), s(B * m), residuals(3 * B), adjoint(B * (3 * n + 4 * m));
        std::vector<int64_t> status(B), iterations(B);
        double* r = residuals.data();
        Forward forward{rows,          {},  {},    {},        x.data(), z.data(), s.data(),
                        status.data(), iterations.data(), r, r + B, r + 2 * B, 0};
        double *q = adjoint.data(), *seed = grads.data();
        Backward backward{rows,
                          x.data(),
                          z.data(),
                          s.data(),
                          seed,
                          seed + B * n,
                          seed + B * (n + m),
                          q,
                          q + B * n,
                          q + B * (n + m),
                          q + B * (n + 2 * m),
                          q + B * (n + 3 * m),
                          q + B * (2 * n + 3 * m),
                          q + B * (2 * n + 4 * m)};
        const Threads by{threads};
        if (qplayer_forward(&forward, by) || qplayer_backward(&backward, by)) return 1;
        if (*std::max_element(status.begin(), status.end()) != SOLVED_CLOSEST_FEASIBLE) return 2;
        if (first.empty()) first = adjoint;
        if (first != adjoint) return 3;
        if (!from_arguments(rows, grads, by)) return 4;
        std::atomic<int32_t> stop{0};
        std::thread stopping([&] { stop = 1; });
        qplayer_forward(&forward, {threads, &stop});
        stopping.join();
    }
    std::puts("clean");
}
